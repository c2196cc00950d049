//! The sign-ins that need a browser, through the embedded issuer's own pages in a real one.
//!
//! Each page is left as a picture in `target/tmp/pages`, for whoever wants to see what people see.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fantoccini::error::CmdError;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use crate::keyring::needs;
use crate::support::{self, PASSWORD, Sandbox, TOTP, USER};

/// How long the slowest step of a browser on a loaded machine may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How large the browser's window is: a desktop's, or a phone's.
#[derive(Clone, Copy)]
enum Screen {
    Desktop,
    Phone,
}

/// A driver on a port of its own, with an empty directory for the browser. Both end when it is dropped.
struct Driver {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Driver {
    fn start() -> Self {
        needs(&["chromium", "chromedriver"]);
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
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok())
            .expect("chromedriver tells its port");
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, port, dir }
    }

    async fn browser(&self, screen: Screen) -> Client {
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
            // Nothing but this machine is there.
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1".into(),
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

/// A person at the browser, who goes through whatever pages come.
struct Person {
    client: Client,
    user: &'static str,
    allows: bool,
    /// What the pictures of this walk are called.
    name: &'static str,
    /// The titles of the pages seen.
    seen: Vec<String>,
}

impl Person {
    /// Opens `url` and answers pages until one asks nothing; gives what that one says.
    async fn walk(&mut self, url: &str) -> Result<String, CmdError> {
        self.client.goto(url).await?;
        for _ in 0..8 {
            self.look().await?;
            let has = |css: &'static str| self.client.find(Locator::Css(css));
            if let Ok(field) = has("#username").await {
                field.clear().await?;
                field.send_keys(self.user).await?;
                has("#password").await?.send_keys(PASSWORD).await?;
                self.press("#login").await?;
            } else if let Ok(field) = has("#otp").await {
                field.send_keys(&one_time_code()).await?;
                self.press("#login").await?;
            } else if has("#continue").await.is_ok() {
                self.press("#continue").await?;
            } else if has("#allow").await.is_ok() {
                self.press(if self.allows { "#allow" } else { "#deny" }).await?;
            } else {
                return self.client.find(Locator::Css("main")).await?.text().await;
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
                Ok(next) if next.element_id() != page && self.client.find(Locator::Css("main")).await.is_ok() => {
                    return Ok(());
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("{button} led nowhere after {:?}: does the page's policy let it?", self.seen);
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

fn one_time_code() -> String {
    let secret = totp_rs::Secret::try_from_base32(TOTP).expect("base32");
    totp_rs::Builder::new().with_secret(secret).build().expect("a generator").generate_current().to_string()
}

/// What became of a walk.
struct Walked {
    /// The last page's words.
    said: String,
    /// The titles of all pages.
    titles: Vec<String>,
    /// Where the last page was.
    address: url::Url,
}

impl Walked {
    fn pages(&self) -> Vec<&str> {
        self.titles.iter().map(|title| title.split(" - ").next().unwrap_or_default()).collect()
    }
}

/// Has `user` walk from `url` to the end.
fn walk(name: &'static str, screen: Screen, url: &str, user: &'static str, allows: bool) -> Walked {
    let driver = Driver::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = driver.browser(screen).await;
        let mut person = Person { client: client.clone(), user, allows, name, seen: Vec::new() };
        let said = tokio::time::timeout(3 * PATIENCE, person.walk(url)).await.expect("in time").expect("a walk");
        let address = client.current_url().await.expect("an address");
        let titles = std::mem::take(&mut person.seen);
        client.close().await.expect("closed");
        Walked { said, titles, address }
    })
}

/// A home whose `BROWSER` hands the address that it is to open to the test.
struct Desk {
    home: Sandbox,
    pipe: PathBuf,
}

impl Desk {
    fn set() -> Self {
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
    fn address(&self) -> String {
        let (tell, told) = mpsc::channel();
        let pipe = self.pipe.clone();
        std::thread::spawn(move || tell.send(std::fs::read_to_string(pipe)));
        told.recv_timeout(PATIENCE).expect("the browser is started").expect("an address")
    }
}

fn login(issuer: &str, grant: &'static str) -> Vec<String> {
    ["login", "work", "--issuer", issuer, "--client-id", "authctl", grant].map(str::to_owned).to_vec()
}

#[test]
fn signing_in_with_the_browser() {
    let issuer = support::issuer(|_| {});
    let desk = Desk::set();
    let args = login(issuer.issuer(), "--browser");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = desk.home.start(&args, "");
    let walked = walk("code", Screen::Desktop, &desk.address(), USER, true);
    desk.home.finish(started, &args).exits(0).says("Logged in as");
    assert!(walked.said.contains("You are signed in"), "{}", walked.said);
    assert!(walked.said.contains("You can close this window"), "{}", walked.said);
    assert_eq!(walked.pages(), ["Log in", "Allow access?", "You are signed in"]);
    // The issuer's policy for its forms let the answer lead out to authctl's own port.
    assert_eq!((walked.address.host_str(), walked.address.path()), (Some("127.0.0.1"), "/callback"));
    assert!(!issuer.issuer().ends_with(&format!(":{}", walked.address.port().expect("a port"))));
    desk.home.token("work");
    desk.home.run(&["verify", "work"]).exits(0);
    assert_eq!(issuer.stats().grants_given["authorization_code"], 1);
}

#[test]
fn signing_in_with_the_browser_and_a_one_time_code() {
    let issuer = support::issuer(|_| {});
    let desk = Desk::set();
    let args = login(issuer.issuer(), "--browser");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = desk.home.start(&args, "");
    let walked = walk("otp", Screen::Phone, &desk.address(), "second", true);
    desk.home.finish(started, &args).exits(0).says("Logged in as");
    assert_eq!(walked.pages(), ["Log in", "One-time code", "Allow access?", "You are signed in"]);
    desk.home.token("work");
}

#[test]
fn saying_no_in_the_browser() {
    let issuer = support::issuer(|_| {});
    let desk = Desk::set();
    let args = login(issuer.issuer(), "--browser");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let started = desk.home.start(&args, "");
    let walked = walk("deny", Screen::Phone, &desk.address(), USER, false);
    desk.home.finish(started, &args).exits(5).says("access_denied");
    assert_eq!(walked.pages(), ["Log in", "Allow access?", "Not signed in"]);
    assert!(walked.said.contains("was refused"), "{}", walked.said);
    desk.home.run(&["token", "work"]).exits(2);
    assert_eq!(issuer.stats().access_tokens, 0);
}

#[test]
fn approving_a_device_in_the_browser() {
    let issuer = support::issuer(|options| options.device_interval = Duration::from_secs(1));
    let home = Sandbox::new();
    let args = login(issuer.issuer(), "--device");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut started = home.start(&args, "");
    let mut stderr = BufReader::new(started.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("Ctrl-C gives up") {
        assert!(stderr.read_line(&mut said).expect("text") > 0, "{said}");
    }
    let mut words = said.split_whitespace();
    let address = words.find(|word| word.starts_with("http") && word.ends_with("/device")).expect("an address");
    let code = said.lines().skip_while(|line| !line.contains("enter the code")).nth(2).expect("a code").trim();
    let walked = walk("device", Screen::Phone, &format!("{address}?user_code={code}"), USER, true);
    assert_eq!(walked.pages(), ["Connect a device", "Log in", "Allow access?", "Connected"]);
    assert!(walked.said.to_lowercase().contains("go back"), "{}", walked.said);
    home.finish(started, &args).exits(0);
    home.token("work");
    assert_eq!(issuer.stats().grants_given.values().sum::<u64>(), 1);
}
