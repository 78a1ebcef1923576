//! The unprivileged user, from the files of the distribution: a static binary has no name service.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

/// Whom the listener runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerUser {
    /// Its id.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// Its other groups, docker for example.
    pub groups: Vec<u32>,
    /// Its name, or its id where it has none.
    pub name: String,
    /// Its home.
    pub home: String,
}

impl RunnerUser {
    /// Finds a user by name, or takes `uid:gid`.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn find(text: &str, passwd: &Path, group: &Path) -> Result<Self, String> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| format!("{} could not be read ({error})", path.display()))
        };
        let passwd = read(passwd)?;
        let numbers = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let mut entries = passwd.lines().filter_map(Entry::parse);
        let entry = match numbers {
            Some((uid, _)) => entries.find(|entry| entry.uid == uid),
            None => entries.find(|entry| entry.name == text),
        };
        match (entry, numbers) {
            (Some(entry), numbers) => Ok(Self {
                uid: entry.uid,
                gid: numbers.map_or(entry.gid, |(_, gid)| gid),
                groups: groups_of(entry.name, &read(group)?),
                name: entry.name.to_owned(),
                home: entry.home.to_owned(),
            }),
            (None, Some((uid, gid))) => {
                Ok(Self { uid, gid, groups: Vec::new(), name: uid.to_string(), home: "/".to_owned() })
            }
            (None, None) => Err(format!("there is no user {text:?}")),
        }
    }

    /// Stands where a user could not be found.
    pub(crate) fn nobody() -> Self {
        Self { uid: 65_534, gid: 65_534, groups: Vec::new(), name: "nobody".to_owned(), home: "/".to_owned() }
    }
}

/// The ids that a user may give to what it starts in a user namespace of its own (subuid(5)); `useradd` allots 65,536 of
/// them. By name or by number, as newuidmap(1) reads them.
///
/// # Errors
/// When one of the files cannot be read; without subuid there are no such ids.
pub(crate) fn subordinates(uid: u32, passwd: &Path, subuid: &Path) -> io::Result<Vec<RangeInclusive<u32>>> {
    let subuid = match std::fs::read_to_string(subuid) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let passwd = std::fs::read_to_string(passwd)?;
    let names: Vec<_> = passwd.lines().filter_map(Entry::parse).filter(|entry| entry.uid == uid).collect();
    let is_it = |owner: &str| owner.parse() == Ok(uid) || names.iter().any(|entry| entry.name == owner);
    Ok(subuid.lines().filter_map(|line| range_of(line, is_it)).collect())
}

/// The range of a line `owner:first:count`. Root is never in it: it is the supervisor, and whoever has that id is root.
fn range_of(line: &str, is_it: impl Fn(&str) -> bool) -> Option<RangeInclusive<u32>> {
    let (owner, numbers) = line.trim().split_once(':')?;
    let (first, count) = numbers.split_once(':')?;
    let (first, count): (u32, u32) = (first.parse().ok()?, count.parse().ok()?);
    // The last number of all is no id.
    let range = first.max(1)..=first.saturating_add(count.checked_sub(1)?).min(u32::MAX - 1);
    (is_it(owner) && !range.is_empty()).then_some(range)
}

/// A line of passwd(5).
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid, home: fields.nth(1)? })
    }
}

/// The groups that list the user, by group(5).
fn groups_of(name: &str, group: &str) -> Vec<u32> {
    let lists_it = |line: &str| {
        let mut fields = line.split(':');
        let gid = fields.nth(2)?.parse().ok()?;
        fields.next()?.split(',').any(|member| member == name).then_some(gid)
    };
    group.lines().filter_map(lists_it).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_or_number() {
        let folder = tempfile::tempdir().unwrap();
        let (passwd, group) = (folder.path().join("passwd"), folder.path().join("group"));
        let entries = "root:x:0:0:root:/root:/bin/sh\nrunner:x:1001:1002::/home/runner:/bin/bash\nbroken\n";
        std::fs::write(&passwd, entries).unwrap();
        std::fs::write(&group, "root:x:0:\ndocker:x:998:other,runner\nadm:x:4:runners\nwheel:x:10:runner").unwrap();
        let find = |text| RunnerUser::find(text, &passwd, &group);
        let runner = RunnerUser {
            uid: 1001,
            gid: 1002,
            groups: vec![998, 10],
            name: "runner".into(),
            home: "/home/runner".into(),
        };
        assert_eq!(find("runner"), Ok(runner.clone()));
        assert_eq!(find("1001:7"), Ok(RunnerUser { gid: 7, ..runner }));
        assert_eq!(find("7:8").map(|user| (user.uid, user.gid, user.name)), Ok((7, 8, "7".into())));
        assert_eq!(find("nobody"), Err("there is no user \"nobody\"".into()));
    }

    #[test]
    fn the_ids_that_a_user_may_give_away_are_found_by_name_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let (passwd, subuid) = (folder.path().join("passwd"), folder.path().join("subuid"));
        std::fs::write(&passwd, "runner:x:1001:1002::/home/runner:/bin/bash\nalias:x:1001:1002::/:/bin/sh\n").unwrap();
        let find = |uid| subordinates(uid, &passwd, &subuid).unwrap();
        assert_eq!(find(1001), vec![], "no file");
        let lines = [
            "ubuntu:100000:65536",
            "runner:165536:65536",
            "1001:300000:1",
            "alias:400000:10",
            "runner:0:10",
            "runner:4294967290:65536",
            "runner:500000:0",
            "runner:x:1",
            "runner:-1:1",
            "10011:600000:1",
            "",
        ];
        std::fs::write(&subuid, lines.join("\n")).unwrap();
        assert_eq!(
            find(1001),
            vec![165_536..=231_071, 300_000..=300_000, 400_000..=400_009, 1..=9, 4_294_967_290..=4_294_967_294]
        );
        assert_eq!(find(10011), vec![600_000..=600_000]);
        assert_eq!(find(7), vec![]);
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(
            subordinates(1001, &passwd, &folder.path().join("folder")).is_err(),
            "what cannot be read is no absence"
        );
    }
}
