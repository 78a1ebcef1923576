//! Keeps the job away from instance metadata, and with it from the instance's role.

use crate::user::subordinates;
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Command, Stdio};

/// Refuses what the user sends to instance metadata (its IPv4 and IPv6 addresses: EC2 user guide, read 2026-11-26), under
/// its own id or under one that it may give away in a user namespace.
///
/// The DNS server of the network has another address and stays. A job that is root can take the rule away; a container
/// is kept away by the hop limit of the launch template.
pub(crate) fn block_metadata(uid: u32) -> io::Result<()> {
    let others = subordinates(uid, Path::new("/etc/passwd"), Path::new("/etc/subuid")).map_err(|error| {
        io::Error::new(error.kind(), format!("/etc/subuid or /etc/passwd cannot be read ({error})"))
    })?;
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("nft cannot be started ({error})")))?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(ruleset(uid, &others).as_bytes())?;
    }
    let output = nft.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("nft: {}", said.lines().next().unwrap_or("it does not say why"))))
}

const METADATA: [&str; 2] = ["ip daddr 169.254.169.254", "ip6 daddr fd00:ec2::254"];

/// Made anew each time: a second supervisor finds the table of the first.
fn ruleset(uid: u32, others: &[RangeInclusive<u32>]) -> String {
    // A range of one is written as the id that it is.
    let others = others.iter().map(|range| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    });
    let rules: String = std::iter::once(uid.to_string())
        .chain(others)
        .flat_map(|ids| METADATA.map(|address| format!("\x20   meta skuid {ids} {address} reject\n")))
        .collect();
    format!(
        "table inet runner_supervisor {{}}\n\
         delete table inet runner_supervisor\n\
         table inet runner_supervisor {{\n\
         \x20 chain output {{\n\
         \x20   type filter hook output priority filter; policy accept;\n\
         {rules}\
         \x20 }}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_name_the_user_and_whom_it_may_become_and_both_addresses() {
        assert_eq!(
            ruleset(1001, &[165_536..=231_071, 300_000..=300_000]),
            "table inet runner_supervisor {}
delete table inet runner_supervisor
table inet runner_supervisor {
  chain output {
    type filter hook output priority filter; policy accept;
    meta skuid 1001 ip daddr 169.254.169.254 reject
    meta skuid 1001 ip6 daddr fd00:ec2::254 reject
    meta skuid 165536-231071 ip daddr 169.254.169.254 reject
    meta skuid 165536-231071 ip6 daddr fd00:ec2::254 reject
    meta skuid 300000 ip daddr 169.254.169.254 reject
    meta skuid 300000 ip6 daddr fd00:ec2::254 reject
  }
}
"
        );
    }
}
