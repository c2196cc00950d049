//! The platform that a program runs on, and that issues an identity token (a JWT) for it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::text::{joined_words, shell_words};

/// Where the identity token of a workload comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workload {
    /// GitHub Actions, which issues a token for the requested audience.
    GitHub,
    /// GitLab CI/CD: the variable that `id_tokens` of the job defines.
    GitLab,
    /// Kubernetes: the token of the pod's service account.
    Kubernetes,
    /// A file that the platform keeps up to date.
    File(PathBuf),
    /// The output of a program: its name and arguments. No shell interprets them.
    Command(Vec<String>),
}

/// An invalid name of a workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWorkload {
    /// It is none of the known ones.
    #[error("unknown workload `{0}` (possible values: github, gitlab, kubernetes, file:PATH, command:CMD)")]
    Unknown(String),
    /// The command cannot be split into words.
    #[error("a quote or backslash in `{0}` is not closed")]
    OpenQuote(String),
}

impl FromStr for Workload {
    type Err = InvalidWorkload;

    /// Parses a source. A command is split into words as in a shell. Paths are made absolute, since the agent runs in another
    /// directory.
    fn from_str(text: &str) -> Result<Self, InvalidWorkload> {
        let shown = || text.chars().filter(|c| !c.is_control()).take(80).collect();
        let invalid = || InvalidWorkload::Unknown(shown());
        let absolute = |path: &str| std::path::absolute(path).map_err(|_| invalid());
        match text.split_once(':') {
            None if text == "github" => Ok(Self::GitHub),
            None if text == "gitlab" => Ok(Self::GitLab),
            None if text == "kubernetes" => Ok(Self::Kubernetes),
            Some(("file", path)) => absolute(path).map(Self::File),
            Some(("command", line)) => {
                let mut words = shell_words(line).ok_or_else(|| InvalidWorkload::OpenQuote(shown()))?;
                let program = words.first_mut().ok_or_else(invalid)?;
                if program.contains('/') {
                    *program = absolute(program)?.into_os_string().into_string().map_err(|_| invalid())?;
                }
                Ok(Self::Command(words))
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GitHub => f.write_str("github"),
            Self::GitLab => f.write_str("gitlab"),
            Self::Kubernetes => f.write_str("kubernetes"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Command(words) => write!(f, "command:{}", joined_words(words)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_written_as_it_is_read() {
        for text in ["github", "gitlab", "kubernetes", "file:/run/token", "command:gcloud auth print-identity-token"] {
            assert_eq!(text.parse::<Workload>().map(|workload| workload.to_string()), Ok(text.to_owned()));
        }
        let command = |words: &[&str]| Ok(Workload::Command(words.iter().map(|word| (*word).to_owned()).collect()));
        assert_eq!(r#"command:sh -c "cat 'a b'""#.parse(), command(&["sh", "-c", "cat 'a b'"]));
        for open in ["command:sh -c 'x", r"command:get\"] {
            assert_eq!(open.parse::<Workload>(), Err(InvalidWorkload::OpenQuote(open.to_owned())));
        }
        for (text, there) in [("file:token", "token"), ("command:./get a  'b c'", "get a 'b c'")] {
            let (workload, here) = (text.parse::<Workload>().expect("valid"), std::env::current_dir().expect("known"));
            assert!(workload.to_string().ends_with(&format!("{}/{there}", here.display())), "{workload}");
        }
        for text in ["", "GitHub", "github:", "kubernetes:/x", "file", "file:", "command:", "command:  ", "exec:x"] {
            assert_eq!(text.parse::<Workload>(), Err(InvalidWorkload::Unknown(text.to_owned())), "{text}");
        }
    }
}
