//! The mesh's password: from a file, a variable or a prompt, never from the command line.

use std::env::VarError;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::args::MeshOptions;
use crate::failure::Failure;
#[cfg(unix)]
use crate::output::tell;
use crate::signals::Stop;

/// Longest password file that is read: one line of at most 1024 bytes, and room to say so.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The variable that holds the password itself, where nothing else was said.
const VARIABLE: &str = "PEERCHANNEL_PASSWORD";

/// What to prove to join.
pub(crate) enum Credential {
    /// Anyone who knows the name.
    Open,
    /// The mesh's password.
    Password(String),
}

impl Credential {
    /// Finds the credential for a mesh. Asks the terminal only where that was chosen.
    pub(crate) async fn find(mesh: &str, options: &MeshOptions, stop: &mut Stop) -> Result<Self, Failure> {
        if options.open {
            return Ok(Self::Open);
        }
        if let Some(path) = &options.password_file {
            return read(path).map(Self::Password);
        }
        if let Some(name) = &options.password_env {
            let named = variable_text(name);
            let password = std::env::var(name).map_err(|error| {
                let why = match error {
                    VarError::NotPresent => "is not set: give the name of a variable that holds the password",
                    VarError::NotUnicode(_) => "does not hold UTF-8",
                };
                Failure::runtime(format!("--password-env: {named} {why}"))
            })?;
            return not_empty(password, &named);
        }
        if options.ask_password {
            return not_empty(ask(mesh, stop).await?, "what was typed");
        }
        match std::env::var(VARIABLE) {
            Ok(password) => not_empty(password, &format!("the variable {VARIABLE}")),
            Err(_) => Err(Failure::usage(format!(
                "joining {mesh:?} needs a credential: --password-file FILE, --password-env VAR or \
                 --ask-password; or --open for a mesh that anyone may join who knows its name"
            ))),
        }
    }
}

/// Asks the terminal. A prompt cannot be interrupted, so a thread waits for it, and the
/// terminal is put right for it when the person does not want to go on.
async fn ask(mesh: &str, stop: &mut Stop) -> Result<String, Failure> {
    let terminal = terminal::State::save();
    let text = format!("Password of {mesh}: ");
    let typed = tokio::task::spawn_blocking(move || rpassword::prompt_password(text));
    let typed = tokio::select! {
        typed = typed => typed.unwrap_or_else(|error| Err(std::io::Error::other(error))),
        () = stop.requested() => {
            terminal.restore();
            return Err(Failure::Interrupted);
        }
    };
    typed.map_err(|error| match error.kind() {
        // Ctrl-C, read as a key.
        ErrorKind::Interrupted => Failure::Interrupted,
        _ => Failure::runtime(format!(
            "cannot ask for a password here ({error}): use --password-file or --password-env"
        )),
    })
}

#[cfg(unix)]
mod terminal {
    //! How the terminal was before it was told not to show what is typed.

    use std::fs::File;

    use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

    pub(super) struct State(Option<(File, Termios)>);

    impl State {
        pub(super) fn save() -> Self {
            let terminal = File::open("/dev/tty").ok();
            Self(terminal.and_then(|terminal| tcgetattr(&terminal).ok().map(|state| (terminal, state))))
        }

        pub(super) fn restore(&self) {
            if let Some((terminal, state)) = &self.0 {
                // Where it cannot be put right, nothing more can be done.
                let _ = tcsetattr(terminal, OptionalActions::Now, state);
            }
        }
    }
}

#[cfg(not(unix))]
mod terminal {
    //! Consoles put themselves right when a process ends.

    pub(super) struct State;

    impl State {
        pub(super) const fn save() -> Self {
            Self
        }

        pub(super) const fn restore(&self) {}
    }
}

/// The variable in an error. What does not look like a name may be the password itself.
fn variable_text(name: &str) -> String {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(is_name) { format!("the variable {name}") } else { "that variable".to_owned() }
}

fn not_empty(password: String, place: &str) -> Result<Credential, Failure> {
    if password.is_empty() {
        return Err(Failure::runtime(format!(
            "the password in {place} is empty: put one there, `peerchannel key passphrase` makes one"
        )));
    }
    Ok(Credential::Password(password))
}

/// The content of a password file without its line end.
fn read(path: &Path) -> Result<String, Failure> {
    let fault = |why: String| Failure::runtime(format!("password file {}: {why}", path.display()));
    let file = std::fs::File::open(path)
        .map_err(|error| fault(format!("cannot read it: {error} (--password-file)")))?;
    warn_if_readable_by_others(path, &file);
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| fault(format!("cannot read it: {error}; it must hold one line of UTF-8")))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(fault("it is too long: it must hold one line with the password".into()));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(fault(
            "it is empty: put the password there, `peerchannel key passphrase` makes one".into(),
        ));
    }
    if line.contains('\n') {
        return Err(fault("it has more than one line: it must hold the password alone".into()));
    }
    Ok(line.to_owned())
}

#[cfg(unix)]
fn warn_if_readable_by_others(path: &Path, file: &std::fs::File) {
    use std::os::unix::fs::PermissionsExt as _;
    let Ok(facts) = file.metadata() else { return };
    let mode = facts.permissions().mode();
    if facts.is_file() && mode & 0o077 != 0 {
        let path = path.display();
        tell(&format!("note: {path} can be read by others: chmod 600 {path}"));
    }
}

#[cfg(not(unix))]
fn warn_if_readable_by_others(_path: &Path, _file: &std::fs::File) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_taken_for_a_variable_is_not_repeated() {
        assert_eq!(variable_text("OPS_PASSWORD_2"), "the variable OPS_PASSWORD_2");
        assert_eq!(variable_text("hunter2"), "that variable");
    }

    #[test]
    fn a_password_file_holds_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        let with = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            read(&path).map_err(|failure| failure.to_string())
        };
        assert_eq!(with(b"six words\n").as_deref(), Ok("six words"));
        assert_eq!(with(b" six words \r\n").as_deref(), Ok(" six words "));
        assert!(with(b"").unwrap_err().contains("is empty"));
        assert!(with(b"\n").unwrap_err().contains("is empty"));
        assert!(with(b"a\nb\n").unwrap_err().contains("more than one line"));
        assert!(with(b"\xff").unwrap_err().contains("UTF-8"));
        assert!(with(&[b'a'; 70_000]).unwrap_err().contains("too long"));
        assert!(read(&folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }
}
