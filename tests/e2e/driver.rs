//! A headless Chromium that walks through an issuer's pages, and a desk whose `BROWSER` tells where it is to start.
//!
//! Each page is left as a picture in `target/tmp/pages`, for whoever wants to see what people see.

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
use crate::support::parts;
use crate::support::process::{Lines, RunningCommand};

/// How long the slowest step of a browser on a loaded machine may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The name of another site, which the browser takes for this machine.
pub const EVIL: &str = "evil.test";

/// How large the browser's window is: a desktop's, or a phone's.
#[derive(Clone, Copy)]
pub enum Screen {
    Desktop,
    Phone,
}

/// A driver on a port of its own, with an empty directory for the browser. Both end when it is dropped.
pub struct Driver {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Driver {
    pub fn start() -> Self {
        parts::require(&["chromium", "chromedriver"]);
        let dir = tempfile::Builder::new().prefix("authctl-browser-").tempdir().expect("a temporary directory");
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("PATH"))
            .env("HOME", dir.path())
            .env("TMPDIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let port = Lines::of(process.stdout.take().expect("piped"))
            .find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok())
            .expect("chromedriver tells its port");
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
            // Nothing but this machine is there, which has another site's name too.
            format!("--host-resolver-rules=MAP {EVIL} 127.0.0.1 , MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"),
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
        // A failed test leaves its browser behind: whatever runs with this directory was started from here.
        let ours = self.dir.path().as_os_str().as_encoded_bytes();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if line.windows(ours.len()).any(|part| part == ours) {
                let _ = Command::new("kill").arg("-KILL").arg(entry.file_name()).output();
            }
        }
    }
}

/// Somebody who looks at page after page.
pub struct Walker {
    client: Client,
    /// What the pictures of this walk are called.
    name: &'static str,
    /// The titles of the pages seen.
    seen: Vec<String>,
}

impl Walker {
    /// One in the browser's present window, the pictures of whose walk are called `name`.
    pub fn new(client: &Client, name: &'static str) -> Self {
        Self { client: client.clone(), name, seen: Vec::new() }
    }

    /// Opens `url` and has `answer` fill in each page and name the button to press, until it names none; gives what that
    /// page says.
    pub async fn walk(&mut self, url: &str, answer: &impl Response) -> Result<String, CmdError> {
        self.client.goto(url).await?;
        for _ in 0..8 {
            self.look().await?;
            match answer.to(&self.client).await? {
                Some(button) => self.press(button).await?,
                None => return self.client.find(Locator::Css("body")).await?.text().await,
            }
        }
        panic!("the pages have no end: {:?}", self.seen);
    }

    /// Presses a button that leads to another page, and waits until that one is there.
    async fn press(&self, button: &str) -> Result<(), CmdError> {
        let page = self.client.find(Locator::Css("html")).await?.element_id();
        self.client.find(Locator::Css(button)).await?.click().await?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            // While the one page goes and the next one comes, there may be none.
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

    /// Takes the page's title and picture, and sees to it that nothing sticks out of it sideways.
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

/// How somebody answers an issuer's pages.
pub trait Response {
    /// Fills in the page that is there and gives the CSS selector of the button to press; `None` on a page that asks
    /// nothing.
    async fn to(&self, page: &Client) -> Result<Option<&'static str>, CmdError>;
}

/// What became of a walk.
pub struct Walked {
    /// The last page's words.
    pub said: String,
    /// The titles of all pages.
    pub titles: Vec<String>,
    /// Where the last page was.
    pub address: url::Url,
}

impl Walked {
    pub fn pages(&self) -> Vec<&str> {
        self.titles.iter().map(|title| title.split(" - ").next().unwrap_or_default()).collect()
    }
}

/// Walks from `url` to the end.
pub fn walk(name: &'static str, screen: Screen, url: &str, answer: &impl Response) -> Walked {
    let driver = Driver::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = driver.browser(screen).await;
        let mut walker = Walker::new(&client, name);
        let said =
            tokio::time::timeout(3 * PATIENCE, walker.walk(url, answer)).await.expect("in time").expect("a walk");
        let address = client.current_url().await.expect("an address");
        let titles = std::mem::take(&mut walker.seen);
        client.close().await.expect("closed");
        Walked { said, titles, address }
    })
}

/// A home whose `BROWSER` hands the address that it is to open to the test.
pub struct Desk {
    pub home: Sandbox,
    pipe: PathBuf,
}

impl Desk {
    pub fn set() -> Self {
        let mut home = Sandbox::new();
        let (pipe, script) = (home.path().join("address"), home.path().join("browser"));
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        let text = format!("#!/bin/sh\nprintf %s \"$1\" > '{}'\n", pipe.display());
        std::fs::write(&script, text).expect("written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).expect("executable");
        home.set("BROWSER", &script);
        Self { home, pipe }
    }

    /// Waits for the address that the program has its browser open.
    pub fn address(&self) -> String {
        let (tell, told) = mpsc::channel();
        let pipe = self.pipe.clone();
        std::thread::spawn(move || tell.send(std::fs::read_to_string(pipe)));
        told.recv_timeout(PATIENCE).expect("the browser is started").expect("an address")
    }
}

/// The address and the code that a device login shows.
#[track_caller]
pub fn shown(login: &RunningCommand) -> (String, String) {
    login.reports("Ctrl-C gives up");
    let code =
        |said: &str| Some(said.lines().skip_while(|line| !line.contains("enter the code")).nth(2)?.trim().to_owned());
    (login.wait_for_line("http"), login.wait_until("a code", code))
}
