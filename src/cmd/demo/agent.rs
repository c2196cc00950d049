//! The second part of the demo: the agent.

use super::{Demo, login_again};
use crate::cmd::dev_issuer::random_password;
use crate::dev_issuer::DevIssuer;
use crate::error::Error;
use crate::secret::Secret;

impl Demo<'_> {
    /// Starts the agent, uses it from a child process, locks, unlocks and stops it.
    pub(super) fn run_agent(&mut self, issuer: &DevIssuer, password: &Secret) -> Result<(), Error> {
        self.title("Log in again and start the agent, which caches sessions in memory.")?;
        let line = Secret::new(format!("{}\n", password.expose()));
        let output = self.show(&login_again(), Some(&line))?;
        self.expect(output.code == 0, "the login succeeds")?;
        let output = self.show(&["agent", "start"], None)?;
        self.expect(output.code == 0, "the agent is running")?;
        let output = self.show(&["agent", "status"], None)?;
        self.expect(
            output.code == 0 && output.stdout.expose().starts_with("agent running"),
            "`agent status` shows it",
        )?;

        self.title("Run a child process that gets a token before and after a refresh.")?;
        let first = Secret::new(self.run(&["token"], None)?.stdout.expose().trim().to_owned());
        let before = issuer.stats().refreshes_committed;
        let script = "old=$(authctl token demo) && authctl refresh demo && new=$(authctl token demo) && \
                      test \"$old\" != \"$new\" && echo new token";
        let child = ["exec", "--", "sh", "-c", script];
        let output = self.show(&child, None)?;
        self.expect(
            output.code == 0 && output.stdout.expose().trim() == "new token",
            "the child process got both tokens",
        )?;
        let second = Secret::new(self.run(&["token"], None)?.stdout.expose().trim().to_owned());
        self.expect(second.expose() != first.expose(), "the next process gets the new token")?;
        let refreshes = issuer.stats().refreshes_committed - before;
        self.expect(refreshes == 1, "the agent sent one refresh request")?;
        let output = self.show(&["agent", "log"], None)?;
        self.expect(
            output.code == 0 && output.stdout.expose().contains("refresh demo"),
            "the agent log shows the refresh",
        )?;

        self.title("Lock the agent. It drops all sessions and returns no tokens.")?;
        let passphrase = random_password()?;
        let line = Secret::new(format!("{}\n", passphrase.expose()));
        let output = self.show(&["agent", "lock", "--passphrase-stdin"], Some(&line))?;
        self.expect(output.code == 0, "the agent is locked")?;
        let output = self.show(&["token"], None)?;
        self.expect(output.code == 8 && output.stdout.is_empty(), "the command fails with exit code 8: agent locked")?;
        let wrong = Secret::new("not the passphrase\n".to_owned());
        let output = self.show(&["agent", "unlock", "--passphrase-stdin"], Some(&wrong))?;
        self.expect(output.code == 8, "a wrong passphrase does not unlock it")?;
        let output = self.show(&["agent", "unlock", "--passphrase-stdin"], Some(&line))?;
        self.expect(output.code == 0, "the right passphrase unlocks it")?;
        let output = self.run(&["token"], None)?;
        self.expect(
            output.code == 0 && output.stdout.expose().trim() == second.expose(),
            "the session is still valid",
        )?;

        self.title("Stop the agent. authctl works without it.")?;
        let output = self.show(&["agent", "stop"], None)?;
        self.expect(output.code == 0, "the agent has stopped")?;
        let output = self.run(&["agent", "status"], None)?;
        self.expect(output.code == 8, "no agent is running")?;
        let output = self.run(&["token"], None)?;
        self.expect(
            output.code == 0 && output.stdout.expose().trim() == second.expose(),
            "the store returns the same token",
        )
    }

    /// Stops the demo's agent if it is running.
    pub(super) fn stop_agent(&self) {
        if self.run(&["agent", "status", "--json"], None).is_ok_and(|output| output.code == 0) {
            let _ = self.run(&["agent", "stop"], None);
        }
    }
}
