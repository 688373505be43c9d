//! Packages of another Debian suite, with all that they depend on, from the server that this
//! system's packages come from. Needs no root, and leaves the system's own lists alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::shell::{output, run};

/// Debian's keys, of its coming release, too.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt in a directory of its own, where no package is installed.
pub struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Sets it up in `directory`, and reads what `suite` has.
    pub fn open(suite: &str, directory: &Path) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        fs::write(directory.join("status"), "")?;
        let source =
            format!("deb [signed-by={KEYRING} target=Packages] {} {suite} main\n", server()?);
        fs::write(directory.join("sources.list"), source)?;
        let archive = Self { directory: directory.to_owned() };
        run(&mut archive.apt_get(&["update", "--quiet=2", "--error-on=any"]))?;
        Ok(archive)
    }

    /// Downloads `packages` and what they depend on; where the files are.
    pub fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let install =
            ["install", "--download-only", "--yes", "--no-install-recommends", "--quiet=2"];
        run(self.apt_get(&install).args(packages))?;
        let files = fs::read_dir(self.directory.join("cache/archives"))?.flatten();
        let files = files.map(|entry| entry.path());
        Ok(files.filter(|file| file.extension().is_some_and(|it| it == "deb")).collect())
    }

    fn apt_get(&self, arguments: &[&str]) -> Command {
        let here = self.directory.display();
        let mut command = Command::new("apt-get");
        for option in [
            format!("Dir::State={here}"),
            format!("Dir::State::status={here}/status"),
            format!("Dir::Cache={here}/cache"),
            format!("Dir::Etc::sourcelist={here}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            // As whoever calls, root or not: the directory is theirs alone.
            "APT::Sandbox::User=".to_owned(),
            "Debug::NoLocking=true".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.args(arguments);
        command
    }
}

/// The server of this system's own release.
fn server() -> Result<String> {
    let codename = codename(&fs::read_to_string("/etc/os-release")?)
        .context("/etc/os-release has no VERSION_CODENAME: this is no release of Debian")?;
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        format,
        "Created-By: Packages",
    ]))?;
    let server = server_of(&targets, &codename)
        .with_context(|| format!("apt's sources have no {codename} main"))?;
    ensure!(Path::new(KEYRING).exists(), "{KEYRING} is not there: this is no Debian");
    Ok(server)
}

fn codename(os_release: &str) -> Option<String> {
    let codename = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(codename.trim_matches('"').to_owned())
}

/// The address in lines of address, release and component.
fn server_of(targets: &str, codename: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?;
        (words.next()? == codename && words.next()? == "main").then(|| address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_that_of_the_release_not_of_its_updates() {
        let targets = "http://a.example/security/ bookworm-security main\n\
                       http://b.example/debian/ bookworm contrib\n\
                       http://b.example/debian/ bookworm main\n";
        let server = server_of(targets, "bookworm");
        assert_eq!(server.as_deref(), Some("http://b.example/debian/"));
        assert_eq!(server_of(targets, "trixie"), None);
    }

    #[test]
    fn the_codename_is_read_with_and_without_quotes() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n").unwrap(), "bookworm");
        assert_eq!(codename("VERSION_CODENAME=\"trixie\"\n").unwrap(), "trixie");
        assert_eq!(codename("ID=alpine\n"), None);
    }
}
