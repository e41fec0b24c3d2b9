//! A database server of a test's own, to be stopped, killed and brought back.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A running server in a folder of its own; it ends with this value.
#[derive(Debug)]
pub struct PrivateServer {
    kind: &'static str,
    folder: TempDir,
    url: String,
}

impl PrivateServer {
    /// Starts one: `postgres` or `mariadb`.
    pub fn start(kind: &'static str) -> Self {
        // In memory where there is such a place: it is not the disk that is tested.
        let base = Path::new("/dev/shm");
        let folder = if base.is_dir() { TempDir::new_in(base) } else { TempDir::new() }.unwrap();
        // The server is another user's process.
        run(Command::new("chmod").arg("755").arg(folder.path()));
        let mut server = Self { kind, folder, url: String::new() };
        server.url = server.come_back();
        server
    }

    /// Where it can be reached, also after it has come back.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join(self.kind)
    }

    fn control(&self, command: &str) -> String {
        run(servers().arg(command).arg(self.kind).arg(self.place()))
    }

    /// Stops it in an orderly way.
    pub fn stop(&self) {
        self.control("stop");
    }

    /// Ends it with SIGKILL.
    pub fn kill(&self) {
        self.control("kill");
    }

    /// Starts it again, on the same port; returns its URL.
    pub fn come_back(&self) -> String {
        self.control("start").trim().to_owned()
    }

    /// Copies its data; it must be stopped.
    pub fn keep(&self) {
        run(Command::new("cp").arg("-a").arg(self.place().join("data")).arg(self.folder.path().join("kept")));
    }

    /// Puts the copy in the place of its data, as a replica that had not heard of what came after; it must not run.
    pub fn fail_over(&self) {
        let data = self.place().join("data");
        run(Command::new("rm").arg("-rf").arg(&data));
        run(Command::new("cp").arg("-a").arg(self.folder.path().join("kept")).arg(&data));
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        let _may_be_gone = servers().arg("kill").arg(self.kind).arg(self.place()).status();
    }
}

fn servers() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/servers"))
}

fn run(command: &mut Command) -> String {
    // Its errors go to a file of the server's, since a pipe that the server inherits would never end.
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
