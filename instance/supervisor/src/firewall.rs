//! Keeps the job away from instance metadata, and with it from the instance's role.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

/// Refuses what the user sends to instance metadata (its IPv4 and IPv6 addresses: EC2 user guide, read 2026-11-26).
///
/// The DNS server of the network has another address and stays. A job that is root can take the rule away; a container
/// is kept away by the hop limit of the launch template.
pub(crate) fn block_metadata(uid: u32) -> io::Result<()> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("nft cannot be started ({error})")))?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(ruleset(uid).as_bytes())?;
    }
    let output = nft.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("nft: {}", said.lines().next().unwrap_or("it does not say why"))))
}

/// Made anew each time: a second supervisor finds the table of the first.
fn ruleset(uid: u32) -> String {
    format!(
        "table inet runner_supervisor {{}}\n\
         delete table inet runner_supervisor\n\
         table inet runner_supervisor {{\n\
         \x20 chain output {{\n\
         \x20   type filter hook output priority filter; policy accept;\n\
         \x20   meta skuid {uid} ip daddr 169.254.169.254 reject\n\
         \x20   meta skuid {uid} ip6 daddr fd00:ec2::254 reject\n\
         \x20 }}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_name_the_user_and_both_addresses() {
        let rules = ruleset(1001);
        assert!(rules.contains("meta skuid 1001 ip daddr 169.254.169.254 reject"), "{rules}");
        assert!(rules.contains("meta skuid 1001 ip6 daddr fd00:ec2::254 reject"), "{rules}");
    }
}
