//! Credentials: the App's JWT and installation tokens.

use crate::Millis;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

/// The farthest end of a JWT, in seconds from now (docs: generating a JWT for a GitHub App).
const LIFE_MAX_SECONDS: Millis = 600;
/// How far the App's clock may run ahead of GitHub's, in seconds. GitHub advises to set `iat` 60 s back instead.
const SKEW_SECONDS: Millis = 5;

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: Value,
    iat: Millis,
    exp: Millis,
}

/// The credential of an `Authorization` header: after `Bearer` or `token`, in any case.
pub(super) fn credential(header: &str) -> Option<&str> {
    let (scheme, credential) = header.split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
    known.then_some(credential.trim())
}

/// Checks an App's JWT: RS256, `iss`, `iat` not in the future, `exp` at most 10 min away, and the signature where a
/// key (PKCS#1 DER) is given. The error is GitHub's message.
pub(super) fn check_app_jwt(token: &str, now: Millis, key: Option<&[u8]>) -> Result<(), &'static str> {
    const UNDECODABLE: &str = "A JSON web token could not be decoded";
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(UNDECODABLE);
    };
    let signed = token.get(..header.len() + 1 + claims.len()).ok_or(UNDECODABLE)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| UNDECODABLE);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| UNDECODABLE)?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| UNDECODABLE)?;
    if header.alg != "RS256" {
        return Err(UNDECODABLE);
    }
    if !(claims.iss.is_string() || claims.iss.is_number()) {
        return Err("'Issuer' claim ('iss') must be an Integer");
    }
    let now_seconds = now / 1_000;
    if claims.iat > now_seconds + SKEW_SECONDS {
        return Err("'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued");
    }
    if claims.exp <= now_seconds {
        return Err(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        );
    }
    if claims.exp > now_seconds + LIFE_MAX_SECONDS + SKEW_SECONDS {
        return Err("'Expiration time' claim ('exp') is too far in the future");
    }
    match key {
        None => Ok(()),
        Some(key) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| UNDECODABLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn jwt(alg: &str, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({ "alg": alg })), part(claims))
    }

    #[test]
    fn an_app_token_is_checked_as_github_checks_it() {
        let now = 1_000_000_000;
        let seconds = now / 1_000;
        let claims = |iat: i64, exp: i64| json!({ "iss": "Iv1.abc", "iat": seconds + iat, "exp": seconds + exp });
        for (case, token, accepted) in [
            ("issued a minute back, nine minutes to go", jwt("RS256", &claims(-60, 540)), true),
            ("an app id as a number", jwt("RS256", &json!({ "iss": 1, "iat": seconds, "exp": seconds + 60 })), true),
            ("ended", jwt("RS256", &claims(-120, -1)), false),
            ("too far away", jwt("RS256", &claims(-60, 700)), false),
            ("issued in the future", jwt("RS256", &claims(60, 120)), false),
            ("another algorithm", jwt("HS256", &claims(-60, 540)), false),
            ("no issuer", jwt("RS256", &json!({ "iat": seconds, "exp": seconds + 60 })), false),
            ("not a token", "ghs_1_abc".to_owned(), false),
            ("four parts", format!("{}.x", jwt("RS256", &claims(-60, 540))), false),
        ] {
            assert_eq!(check_app_jwt(&token, now, None).is_ok(), accepted, "{case}");
        }
        let unverifiable = jwt("RS256", &claims(-60, 540));
        assert!(check_app_jwt(&unverifiable, now, Some(&[1, 2, 3])).is_err(), "a key that did not sign it");
    }

    /// A public key and a token signed by its private key, which was thrown away (made with openssl for this test).
    const PUBLIC_KEY: &str = "MIIBCgKCAQEAtmH36ZoZ4XUdXe4wMULOE/yNEa9RuYlQZ3kw1WVDSY0BTuequ8xifZ8leZiPBOIytx0xDzFKRgtXBV\
         W55RZPfjRsxm5MGkguuBGqtUFp/2oRbymRa7MHlGcVXBbOKkiYshXxbYYcHZbjtIC56/PtSg2/PjlOSu3pEH0Ohjv3\
         abg/uEUpVBgIzSFPNzWwhNYkwwC5aU0WMTN79tI1zvQvzAk9HXJORjWHU41E6nYGO8cga3DYd7c0ItSwp1kwSMAK+o\
         CuRklnbtODA4vGJgoze2rjtyyqSoiY39ALxR+dSO3Sr5fNOZaWJoxW9W5K2lHimYwsZ8Lp2IaOAlXAe40e0QIDAQAB";
    const SIGNED: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJJdjEuYWJjIiwiaWF0IjoxMDAwMDAwLCJleHAiOjEwM\
         DA1NDB9.DT3shn4rLrJZxX3dFGmyBkaKXJ1B1I-qK1gwn9uJ7_l7r8ike21D1Z8YMRRVTLq2hbu_-tbz76075MyPKB\
         f76bUblTbLPKY7droIXlfrr7nN-bs73J286T6LfnYn_fg-iS2zmA87SdfqnDmY9283WxXL5dZ6hg6oZ8L2vDx1DRXQ\
         mZ_j6Kc3Rkq9tiA9XgOCdgfj7VDHKLCQFA2JSqy7gMMDNCoDev-5z-YSjGzt3sBSODDuO5kA8mJ39m8JFjyQJexgP3\
         hRNksgd5E0YEjPgL_Y3taeqGvdepqfS_w6P47Y9UBqJQFHto9RN3wJmyDASc0qNkGl2rQBUnBAHsGOCA";

    #[test]
    fn a_signature_is_verified_where_a_key_is_configured() {
        let key = base64::engine::general_purpose::STANDARD.decode(PUBLIC_KEY).unwrap();
        let now = 1_000_060_000;
        assert_eq!(check_app_jwt(SIGNED, now, Some(&key)), Ok(()));
        let (signed, _) = SIGNED.rsplit_once('.').unwrap();
        assert!(check_app_jwt(&format!("{signed}.c2ln"), now, Some(&key)).is_err(), "another signature");
        assert!(check_app_jwt(SIGNED, now, Some(&key[..200])).is_err(), "another key");
    }

    #[test]
    fn the_credential_follows_bearer_or_token() {
        assert_eq!(credential("Bearer abc"), Some("abc"));
        assert_eq!(credential("token abc"), Some("abc"));
        assert_eq!(credential("Basic abc"), None);
        assert_eq!(credential("abc"), None);
    }
}
