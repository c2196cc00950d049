//! What the user is asked, without blocking the runtime.

use super::App;
use crate::secret::Secret;
use crate::text::pasted_line;
use crate::ui;

impl App {
    /// Prompts for a line of text without blocking the runtime; returns `None` without an answer. What pasted text may have
    /// around it is removed.
    pub async fn ask(&self, prompt: &str) -> Option<String> {
        let ui = self.ui;
        ui.prompt(prompt);
        let mut typed = self.typed.lock().await;
        let line = typed.get_or_insert_with(|| tokio::task::spawn_blocking(move || ui.read_line()));
        let line = line.await.ok().flatten();
        *typed = None;
        if line.is_none() {
            // Ends the line of the prompt, where the terminal has shown Ctrl-D as `^D`.
            ui.prompt_unanswered();
        }
        line.map(|line| pasted_line(&line))
    }

    /// Reads a line from stdin, typed or piped; the prompt is shown only on a terminal.
    pub async fn ask_line(&self, prompt: &str) -> Option<String> {
        if self.ui().is_interactive() {
            return self.ask(prompt).await;
        }
        tokio::task::spawn_blocking(ui::read_stdin_line).await.ok().flatten()
    }

    /// Returns whether more was pasted or piped than what was read, without blocking the runtime.
    pub async fn has_more_input(&self) -> bool {
        tokio::task::spawn_blocking(ui::has_more_input).await.unwrap_or(false)
    }

    /// Prompts for a secret without blocking the runtime.
    pub async fn ask_secret(&self, prompt: &str) -> Option<Secret> {
        let (ui, prompt) = (self.ui, prompt.to_owned());
        tokio::task::spawn_blocking(move || ui.ask_secret(&prompt)).await.ok().flatten()
    }

    /// Asks a yes-or-no question; the default is no.
    pub async fn confirm(&self, question: &str) -> Option<bool> {
        let answer = self.ask(&format!("{question} [y/N] ")).await?;
        Some(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
