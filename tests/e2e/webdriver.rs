//! A headless Chromium that goes through the pages of an issuer.
//!
//! A screenshot of each page is left in `target/tmp/pages`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fantoccini::error::CmdError;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use crate::support::Sandbox;
use crate::support::free_port;
use crate::support::login_pages::user_code;
use crate::support::parts;
use crate::support::process::{Lines, RunningCommand};

/// How long one step of a browser may take on a busy machine.
pub const BROWSER_LIMIT: Duration = Duration::from_secs(20);

/// The host name of another site, which the browser resolves to this machine.
pub const ATTACKER_HOST: &str = "evil.test";

/// The size of the browser window.
#[derive(Clone, Copy)]
pub enum Screen {
    Desktop,
    Phone,
}

/// A chromedriver on a free port, with an empty browser profile. It and its browser are killed when dropped.
pub struct Driver {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Driver {
    pub fn start() -> Self {
        parts::require(&["chromium", "chromedriver"]);
        let dir = tempfile::Builder::new().prefix("authctl-browser-").tempdir().expect("a temporary directory");
        let port = free_port();
        let mut process = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("PATH"))
            .env("HOME", dir.path())
            .env("TMPDIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let mut output = Lines::of(process.stdout.take().expect("piped")).inspect(|line| eprintln!("{line}"));
        assert!(output.any(|line| line.contains("started successfully")), "chromedriver exited");
        Self { process, port, dir }
    }

    pub async fn browser(&self, screen: Screen) -> Client {
        let data = self.dir.path().join("profile");
        let args = [
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-quic".into(),
            "--disable-dev-shm-usage".into(),
            "--no-first-run".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            // No host but this machine can be reached.
            format!("--host-resolver-rules=MAP {ATTACKER_HOST} 127.0.0.1 , MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"),
            "--window-size=1000,800".into(),
            format!("--user-data-dir={}", data.display()),
        ];
        let mut options = json!({"binary": "/usr/bin/chromium", "args": args});
        if let Screen::Phone = screen {
            options["mobileEmulation"] = json!({"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 1}});
        }
        let capabilities = json!({"goog:chromeOptions": options, "timeouts": {"pageLoad": 30_000}});
        ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().expect("an object").clone())
            .connect(&format!("http://127.0.0.1:{}", self.port))
            .await
            .expect("a browser")
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // A failed test leaves its browser running. Its command line names this directory.
        let ours = self.dir.path().as_os_str().as_encoded_bytes();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if line.windows(ours.len()).any(|part| part == ours) {
                let _ = Command::new("kill").arg("-KILL").arg(entry.file_name()).output();
            }
        }
    }
}

/// A sequence of pages, from one to the next.
pub struct PageFlow {
    client: Client,
    /// The file name of the screenshots.
    name: &'static str,
    /// The titles of the pages so far.
    seen: Vec<String>,
}

impl PageFlow {
    /// Starts in the current window of the browser.
    pub fn new(client: &Client, name: &'static str) -> Self {
        Self { client: client.clone(), name, seen: Vec::new() }
    }

    /// Opens `url`, has `user` fill in each page and presses the button that it returns, until it returns none. Returns the
    /// text of the last page.
    pub async fn complete(&mut self, url: &str, user: &impl PageUser) -> Result<String, CmdError> {
        self.client.goto(url).await?;
        for _ in 0..8 {
            self.look().await?;
            match user.respond(&self.client).await? {
                Some(button) => self.press(button).await?,
                None => return self.client.find(Locator::Css("body")).await?.text().await,
            }
        }
        panic!("the pages have no end: {:?}", self.seen);
    }

    /// Presses a button and waits until the next page is loaded.
    async fn press(&self, button: &str) -> Result<(), CmdError> {
        let page = self.client.find(Locator::Css("html")).await?.element_id();
        self.client.find(Locator::Css(button)).await?.click().await?;
        let end = Instant::now() + BROWSER_LIMIT;
        while Instant::now() < end {
            // Between two pages there may be no document.
            match self.client.find(Locator::Css("html")).await {
                Ok(next) if next.element_id() != page && self.is_whole().await => return Ok(()),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("{button} led nowhere after {:?}: does the page's policy let it?", self.seen);
    }

    async fn is_whole(&self) -> bool {
        let state = self.client.execute("return document.readyState", Vec::new()).await;
        state.is_ok_and(|state| state == json!("complete"))
    }

    /// Records the title and a screenshot. Fails the test if the page is wider than the window.
    async fn look(&mut self) -> Result<(), CmdError> {
        let title = self.client.title().await?;
        let pages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
        std::fs::create_dir_all(&pages).expect("made");
        let picture = pages.join(format!("{}-{}.png", self.name, self.seen.len()));
        std::fs::write(picture, self.client.screenshot().await?).expect("written");
        let wide = "const d = document.documentElement; return d.scrollWidth <= d.clientWidth";
        let fits = self.client.execute(wide, Vec::new()).await?;
        assert_eq!(fits, json!(true), "`{title}` is wider than the window");
        self.seen.push(title);
        Ok(())
    }
}

/// A user at the pages of an issuer.
pub trait PageUser {
    /// Fills in the page and returns the CSS selector of the button to press; `None` on the last page.
    async fn respond(&self, page: &Client) -> Result<Option<&'static str>, CmdError>;
}

/// The result of going through the pages.
pub struct FlowResult {
    /// The text of the last page.
    pub text: String,
    /// The titles of all pages.
    pub titles: Vec<String>,
    /// The address of the last page.
    pub address: url::Url,
}

impl FlowResult {
    pub fn pages(&self) -> Vec<&str> {
        self.titles.iter().map(|title| title.split(" - ").next().unwrap_or_default()).collect()
    }
}

/// Goes from `url` to the last page.
pub fn complete(name: &'static str, screen: Screen, url: &str, user: &impl PageUser) -> FlowResult {
    let driver = Driver::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = driver.browser(screen).await;
        let mut flow = PageFlow::new(&client, name);
        let text = tokio::time::timeout(3 * BROWSER_LIMIT, flow.complete(url, user))
            .await
            .expect("in time")
            .expect("the pages");
        let address = client.current_url().await.expect("an address");
        let titles = std::mem::take(&mut flow.seen);
        client.close().await.expect("closed");
        FlowResult { text, titles, address }
    })
}

/// A home whose `BROWSER` passes the URL to the test.
pub struct BrowserSandbox {
    pub home: Sandbox,
    pipe: PathBuf,
}

impl BrowserSandbox {
    pub fn new() -> Self {
        let mut home = Sandbox::new();
        let (pipe, script) = (home.path().join("address"), home.path().join("browser"));
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        let text = format!("#!/bin/sh\nprintf %s \"$1\" > '{}'\n", pipe.display());
        std::fs::write(&script, text).expect("written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).expect("executable");
        home.set("BROWSER", &script);
        Self { home, pipe }
    }

    /// Waits for the URL that authctl opens in the browser.
    pub fn address(&self) -> String {
        let (sender, url) = mpsc::channel();
        let pipe = self.pipe.clone();
        std::thread::spawn(move || sender.send(std::fs::read_to_string(pipe)));
        url.recv_timeout(BROWSER_LIMIT).expect("the browser is started").expect("an address")
    }
}

/// Returns the verification URI and the user code that a device login shows.
#[track_caller]
pub fn shown(login: &RunningCommand) -> (String, String) {
    login.reports("Ctrl-C cancels");
    (login.wait_for_line("http"), login.wait_until("a code", user_code))
}
