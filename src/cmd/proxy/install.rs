//! `authctl proxy install` and `uninstall`: a service of the user that runs a proxy.

use std::path::PathBuf;

use super::arguments::{ListenAddress, check};
use crate::app::App;
use crate::cli::{ProxyInstall, ProxyRun};
use crate::cmd::service::{self, Kind, Service, absolute};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::directory_of;
use crate::model::{ApiUrl, ProfileName, format_duration};

/// The default of `--listen`, which a service does not use: its port would be another one after each start.
const ANY_PORT: &str = "127.0.0.1:0";

/// Writes the service's files and enables the service, or prints the files.
pub(super) fn install(app: &App, args: &ProxyInstall) -> Result<u8, Error> {
    let run = &args.run;
    let help = || Hint::command("proxy install").with_flag("--help");
    let (profile, api, _) = check(app, run.profile.as_ref(), &run.rules)?;
    let (name, api) = (profile.name, api.clone());
    let listen = match ListenAddress::parse(&run.listen)? {
        ListenAddress::Tcp(_) if run.listen == ANY_PORT => format!("unix:{}", absolute(&socket(app, &name)?)?),
        ListenAddress::Tcp(address) if address.port() == 0 => {
            return Err(Error::msg(ErrorCode::Usage, "a service needs a port that stays the same", help()));
        }
        ListenAddress::Tcp(_) if run.key_file.is_none() => {
            let message = "at a port, a service needs a key that stays the same: --key-file FILE";
            return Err(Error::msg(ErrorCode::Usage, message, help()));
        }
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", absolute(&path)?),
    };
    let service = Service::new(app, Kind::Proxy(name.clone(), api.clone()), &arguments(run, &name, &api, &listen)?)?;
    if args.print {
        return service::print(app, &service);
    }
    let installed = service::install(app, &service)?;
    app.ui().notice(&format!("callers connect to {listen}"));
    Ok(installed)
}

/// Stops and disables the service, and removes its files.
pub(super) fn uninstall(app: &App, profile: Option<&ProfileName>) -> Result<u8, Error> {
    service::uninstall(app, &service_of(app, app.required_profile(profile)?)?)
}

/// Returns the file of the service that runs a profile's proxy, if it is installed.
pub(crate) fn installed_service(app: &App, name: &ProfileName) -> Option<PathBuf> {
    service::installed_file(&service_of(app, name.clone()).ok()?)
}

/// Returns the service of a profile's proxy, to find its files.
fn service_of(app: &App, name: ProfileName) -> Result<Service, Error> {
    // Neither its API nor its arguments matter: the files have the profile's name.
    let api: ApiUrl = "https://localhost".parse().map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))?;
    Service::new(app, Kind::Proxy(name, api), &[])
}

/// Returns the default socket of a profile's proxy.
fn socket(app: &App, name: &ProfileName) -> Result<PathBuf, Error> {
    Ok(directory_of(&app.paths()?.agent_socket).join(format!("proxy-{name}.sock")))
}

/// Returns the arguments of the proxy.
fn arguments(run: &ProxyRun, name: &ProfileName, api: &ApiUrl, listen: &str) -> Result<Vec<String>, Error> {
    let mut words = vec!["proxy".to_owned(), name.to_string()];
    let mut add = |option: &str, value: String| words.push(format!("{option}={value}"));
    add("--for", api.to_string());
    add("--listen", listen.to_owned());
    run.rules.allowed.iter().for_each(|rule| add("--allow", rule.to_string()));
    if let Some(number) = run.rules.max_requests {
        add("--max-requests", number.to_string());
    }
    if let Some(ttl) = run.ttl {
        add("--ttl", format_duration(ttl));
    }
    if let Some(file) = &run.key_file {
        add("--key-file", absolute(file)?);
    }
    words.extend(run.rules.read_only.then(|| "--read-only".to_owned()));
    Ok(words)
}
