//! The result of a command, with assertions.

/// The exit code and output of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl CommandOutput {
    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless stderr contains `text`.
    #[track_caller]
    pub fn reports(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected {text:?} in stderr: {}", self.stderr);
        self
    }

    /// Parses stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}: {:?} (stderr: {})", self.stdout, self.stderr))
    }

    /// Parses the error on stderr as JSON.
    #[track_caller]
    pub fn error(&self) -> serde_json::Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {:?}", self.stderr));
        value["error"].clone()
    }

    /// Returns the only line of stdout.
    #[track_caller]
    pub fn line(&self) -> &str {
        let line = self.stdout.strip_suffix('\n').expect("stdout ends with a line end");
        assert!(!line.contains('\n') && !line.is_empty(), "one line: {:?}", self.stdout);
        line
    }
}
