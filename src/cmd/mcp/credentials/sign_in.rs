//! Logs in where the user has allowed it, with a process of its own: `authctl login --for URL`.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::{McpCredentials, RecentLogin};
use crate::cmd::challenge::{api_to_log_in, login_required};
use crate::error::{Error, ErrorCode, Hint};
use crate::mcp::ServerRefusal;
use crate::model::{Profile, format_duration};
use crate::paths::own_program;
use crate::session::StepUp;
use crate::text::sanitize_line;
use crate::ui::print_line;

/// After how long a profile is logged in to again, and after how long any login follows one that the user declined: the server
/// decides what it asks for, and could open one window after the other.
const REPEAT_AFTER: Duration = Duration::from_secs(600);

/// The error that the process reports.
#[derive(Deserialize)]
struct Report {
    error: ReportedError,
}

#[derive(Deserialize)]
struct ReportedError {
    code: String,
    message: String,
    hint: String,
    #[serde(default)]
    note: Option<String>,
}

/// Ends the process if its caller has gone.
struct Running(Pid);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::INT);
    }
}

impl McpCredentials<'_> {
    /// Logs in with what `step_up` requires in the browser, if the user has allowed that and no such login was just made.
    ///
    /// # Errors
    /// [`ErrorCode::LoginRequired`] with the command to log in, or the error of that command.
    pub(super) async fn log_in(
        &self,
        profile: Option<&Profile>,
        refusal: &ServerRefusal,
        step_up: StepUp,
    ) -> Result<(), Error> {
        let now = self.app.clock().monotonic();
        self.logins.borrow_mut().retain(|login| now.duration_since(login.at) < REPEAT_AFTER);
        let name = profile.map(|profile| profile.name.clone());
        let is_too_soon = self.logins.borrow().iter().any(|login| login.has_failed || login.profile == name);
        if !self.args.browser || is_too_soon {
            return Err(match profile {
                Some(profile) => login_required(profile, &self.args.url, &step_up),
                None => {
                    let hint = Hint::command("login").with_option("--for", self.args.url.to_string());
                    Error::msg(ErrorCode::LoginRequired, format!("{} requires a login", self.args.url), hint)
                }
            });
        }
        // Until it has succeeded, it counts as failed.
        self.logins.borrow_mut().push(RecentLogin { profile: name, at: now, has_failed: true });
        let failed = |e: io::Error| {
            Error::new(ErrorCode::Unexpected, anyhow::Error::new(e).context("cannot start the login"), Hint::None)
        };
        let challenges = refusal.challenges.join("\n");
        let mut child = self
            .login_command(profile, &step_up, !challenges.is_empty())
            .and_then(|mut command| command.spawn())
            .map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // A command that needs no challenge may not read it.
            let _ = input.write_all(challenges.as_bytes());
        }
        let running = Running(Pid::from_child(&child));
        let ended = tokio::task::spawn_blocking(move || wait(child)).await.map_err(io::Error::other);
        std::mem::forget(running);
        match ended.and_then(|ended| ended).map_err(failed)? {
            None => {
                self.logins.borrow_mut().iter_mut().for_each(|login| login.has_failed = false);
                self.tokens.forget();
                Ok(())
            }
            Some(ReportedError { code, message, hint, note }) => {
                let code = ErrorCode::from_word(&code).unwrap_or(ErrorCode::Unexpected);
                Err(Error::msg(code, message, Hint::reported(hint, note)))
            }
        }
    }

    fn login_command(&self, profile: Option<&Profile>, step_up: &StepUp, has_challenge: bool) -> io::Result<Command> {
        let mut command = Command::new(own_program()?);
        if let Some(config) = &self.app.common.config {
            command.arg("--config").arg(config);
        }
        command.args(["login", "--json", "--no-input", "--browser"]);
        let url = &self.args.url;
        if let Some(url) = profile.map_or(Some(url), |profile| api_to_log_in(profile, url, step_up)) {
            command.args(["--for", url.url().as_str()]);
            command.args(has_challenge.then_some(["--challenge", "-"]).into_iter().flatten());
        }
        command.args(profile.map(|profile| profile.name.as_str()));
        command.args(self.args.yes.then_some("--yes"));
        command.args(step_up.scopes.iter().map(|scope| format!("--scope={scope}")));
        command.args(step_up.acr_values.iter().map(|values| format!("--acr-values={values}")));
        command.args(step_up.max_age.map(|age| format!("--max-age={}", format_duration(age))));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(command)
    }
}

/// Passes on what the login prints, and returns the error that it reports.
fn wait(mut child: Child) -> io::Result<Option<ReportedError>> {
    let mut reported = None;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            let line = line?;
            match serde_json::from_str::<Report>(&line) {
                Ok(report) => reported = Some(report.error),
                Err(_) => print_line(sanitize_line(&line)),
            }
        }
    }
    let status = child.wait()?;
    let unknown = || ReportedError {
        code: ErrorCode::from_exit_code(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
            .as_str()
            .to_owned(),
        message: "the login failed".to_owned(),
        hint: String::new(),
        note: None,
    };
    Ok((!status.success()).then(|| reported.unwrap_or_else(unknown)))
}
