//! Who a command is to be.

use std::{ffi::CString, io, path::PathBuf};

use nix::unistd::{Gid, Uid, getgrouplist, setgid, setgroups, setuid};
use thiserror::Error;

/// A user as `/etc/passwd` and kin know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    user: Uid,
    group: Gid,
    groups: Vec<Gid>,
    name: String,
    home: PathBuf,
}

/// Why somebody cannot be found.
#[derive(Debug, Error)]
pub enum UserError {
    /// Nobody is called so.
    #[error("there is no user {name}")]
    Unknown {
        /// As given.
        name: String,
    },
    /// The system does not tell.
    #[error("the user {name} cannot be looked up: {source}")]
    LookUp {
        /// As given.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl User {
    /// Looks for one by name or number.
    ///
    /// # Errors
    /// [`UserError`].
    pub fn find(name: &str) -> Result<Self, UserError> {
        let failed =
            |errno: nix::Error| UserError::LookUp { name: name.to_owned(), source: errno.into() };
        let found = match name.parse() {
            Ok(number) => nix::unistd::User::from_uid(Uid::from_raw(number)),
            Err(_) => nix::unistd::User::from_name(name),
        };
        let unknown = || UserError::Unknown { name: name.to_owned() };
        let found = found.map_err(failed)?.ok_or_else(unknown)?;
        let c_name = CString::new(found.name.clone()).map_err(|_| unknown())?;
        let groups = getgrouplist(&c_name, found.gid).map_err(failed)?;
        let nix::unistd::User { uid: user, gid: group, name, dir: home, .. } = found;
        Ok(Self { user, group, groups, name, home })
    }

    /// The variables that say who one is.
    pub(super) fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("HOME", self.home.clone()),
            ("USER", self.name.clone().into()),
            ("LOGNAME", self.name.clone().into()),
        ]
    }

    /// Makes this process theirs, for good. Makes system calls only.
    pub(super) fn become_it(&self) -> io::Result<()> {
        setgroups(&self.groups)?;
        setgid(self.group)?;
        setuid(self.user)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let by_name = User::find("root").unwrap();
        assert_eq!(by_name, User::find("0").unwrap());
        assert_eq!(by_name.environment()[0], ("HOME", "/root".into()));
    }

    #[test]
    fn nobody_is_found_who_is_not_there() {
        let error = User::find("no-such-user-here").unwrap_err();
        assert_eq!(error.to_string(), "there is no user no-such-user-here");
    }
}
