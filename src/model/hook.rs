//! Hooks: commands of a profile that run when its session is refreshed or needs a login.

/// A command that runs without a shell: the program and its arguments. Empty if none is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookCommand(Vec<String>);

/// The hooks of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Runs after a refresh.
    pub on_refresh: HookCommand,
    /// Runs when a session has ended and a login is required.
    pub on_login_required: HookCommand,
}

/// The program is a path that depends on the current directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid program `{0}` (an absolute path, or a name that is found in PATH)")]
pub struct InvalidProgram(String);

impl HookCommand {
    /// Creates a command from its words.
    ///
    /// # Errors
    /// [`InvalidProgram`].
    pub fn new(words: &[String]) -> Result<Self, InvalidProgram> {
        match words.first() {
            // `["sh", "-c", ...]` on the command line is one word, not a list; `[` is a program.
            Some(program) if program.is_empty() || program.starts_with('[') && program.len() > 1 => {
                Err(InvalidProgram(crate::text::excerpt(program, 80)))
            }
            Some(program) if program.contains('/') && !program.starts_with('/') => {
                Err(InvalidProgram(crate::text::excerpt(program, 80)))
            }
            _ => Ok(Self(words.to_vec())),
        }
    }

    /// Returns the program and its arguments; nothing if no command is set.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_does_not_depend_on_the_current_directory() {
        let new = |words: &[&str]| HookCommand::new(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        for valid in [&["/usr/bin/logger", "./x"][..], &["logger"], &["logger", ""], &[]] {
            assert!(new(valid).is_ok(), "{valid:?}");
        }
        for invalid in [&["./hook"][..], &["../hook"], &["bin/hook"], &["~/hook"], &["", "x"]] {
            assert!(new(invalid).is_err(), "{invalid:?}");
        }
    }
}
