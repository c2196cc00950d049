//! The manual pages of the commands, from the definition of the command line.

use authctl::cli::Cli;
use authctl::error::{EXIT_CODES, ErrorCode};
use clap::{ArgAction, Command, CommandFactory as _};

use crate::details::DETAILS;
use crate::examples::EXAMPLES;
use crate::roff::{escape, folded, prose};

/// The date in the pages' footer.
const DATE: &str = "2026-11-26";

/// Returns the pages by name.
pub fn pages() -> Vec<(String, String)> {
    let mut command = Cli::command();
    command.build();
    let mut pages = Vec::new();
    collect(&command, "authctl", &mut pages);
    pages
}

fn collect(command: &Command, name: &str, pages: &mut Vec<(String, String)>) {
    pages.push((name.to_owned(), page(command, name)));
    // Below `authctl`, `help` is clap's own.
    let is_own = |subcommand: &&Command| name == "authctl" || subcommand.get_name() != "help";
    for subcommand in command.get_subcommands().filter(is_own) {
        collect(subcommand, &format!("{name}-{}", subcommand.get_name()), pages);
    }
}

fn page(command: &Command, name: &str) -> String {
    let title: &'static str = name.to_owned().leak();
    let mut described = command.clone().name(title).display_name(title);
    if described.get_long_about().is_none() {
        let about = described.get_about().map(|about| format!("{about}.")).unwrap_or_default();
        described = described.long_about(about);
    }
    let man = clap_mangen::Man::new(described)
        .date(DATE)
        .source(concat!("authctl ", env!("CARGO_PKG_VERSION")))
        .manual("authctl manual");
    let mut page = Vec::new();
    man.render_title(&mut page).expect("rendered");
    man.render_name_section(&mut page).expect("rendered");
    page.extend_from_slice(synopsis(command, name).as_bytes());
    man.render_description_section(&mut page).expect("rendered");
    let details = DETAILS.iter().find(|(page, _)| *page == name).map(|(_, sections)| *sections).unwrap_or_default();
    for (_, text) in details.iter().filter(|(heading, _)| *heading == "DESCRIPTION") {
        page.extend_from_slice(format!(".PP\n{}", paragraphs(text)).as_bytes());
    }
    man.render_options_section(&mut page).expect("rendered");
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page).expect("rendered");
    }
    // Two breaks around an empty line are one paragraph, which mandoc warns about.
    let mut page = String::from_utf8(page).expect("UTF-8").replace("\n.br\n\n.br\n", "\n.sp\n");
    if let Some(help) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        page.push_str(&after_help(&help.to_string()));
    }
    for (heading, text) in details.iter().filter(|(heading, _)| *heading != "DESCRIPTION") {
        page.push_str(&format!(".SH {heading}\n{}", paragraphs(text)));
    }
    page.push_str(".SH EXIT STATUS\n");
    for (code, meaning) in EXIT_CODES {
        page.push_str(&format!(".TP\n\\fB{code}\\fR\n{}\n", prose(meaning)));
        let words: Vec<&str> =
            ErrorCode::ALL.iter().filter(|error| error.exit_code() == code).map(|error| error.as_str()).collect();
        if name == "authctl" && !words.is_empty() {
            page.push_str(&format!(".br\nError codes: {}\n", escape(&words.join(", "))));
        }
    }
    page.push_str(&examples(name));
    page.push_str(&see_also(name));
    let page = page.replacen(&format!(".TH {name} "), &format!(".TH {} ", name.to_uppercase()), 1);
    // Names of commands, variables and error codes are searched for and copied: no hyphens, and no wide gaps without them.
    folded(&page.replacen("\"authctl manual\"\n", "\"authctl manual\"\n.nh\n.ad l\n", 1))
}

/// Renders the synopsis: every option of the command with its value, without those that all commands have.
fn synopsis(command: &Command, name: &str) -> String {
    let verbs = name.replace('-', " ").replace("dev issuer", "dev-issuer");
    let mut words = vec![format!("\\fB{}\\fR", escape(&verbs))];
    let (mut positionals, is_top) = (Vec::new(), name == "authctl");
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && (is_top || !arg.is_global_set())) {
        if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
            continue;
        }
        let value = arg.get_value_names().filter(|_| arg.get_action().takes_values());
        let value = value.map(|names| format!("\\fI{}\\fR", escape(&names.join(" ")))).unwrap_or_default();
        let repeated = match arg.get_action() {
            ArgAction::Append | ArgAction::Count => "...",
            _ => "",
        };
        let name = match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(long)) => format!("\\fB\\-{short}\\fR|\\fB\\-\\-{}\\fR", escape(long)),
            (None, Some(long)) => format!("\\fB\\-\\-{}\\fR", escape(long)),
            _ => String::new(),
        };
        let text = format!("{name}{}{value}", if name.is_empty() || value.is_empty() { "" } else { "\\~" });
        let text = if arg.is_required_set() { format!("{text}{repeated}") } else { format!("[{text}]{repeated}") };
        match arg.is_positional() {
            true if arg.is_last_set() => positionals.push(format!("\\fB\\-\\-\\fR {text}")),
            true => positionals.push(text),
            false => words.push(text),
        }
    }
    words.append(&mut positionals);
    if !is_top {
        words.insert(1, "[\\fIOPTIONS\\fR]".to_owned());
    }
    if command.has_subcommands() {
        words.push("\\fICOMMAND\\fR".to_owned());
    }
    format!(".SH SYNOPSIS\n{}\n", words.join("\n"))
}

/// Returns the sections that the text after a command's help makes. Examples are left out: the page has its own.
fn after_help(help: &str) -> String {
    let (mut notes, mut sections) = (String::new(), String::new());
    for paragraph in help.trim().split("\n\n").filter(|paragraph| !paragraph.contains("  authctl ")) {
        match paragraph.split_once(":\n") {
            Some((heading, text)) if !heading.contains('\n') => {
                sections.push_str(&format!(".SH {}\n{}", heading.to_uppercase(), paragraphs(text)));
            }
            _ => notes.push_str(&format!("{paragraph}\n\n")),
        }
    }
    match notes.trim() {
        "" => sections,
        notes => format!(".SH NOTES\n{}{sections}", paragraphs(notes)),
    }
}

/// Renders paragraphs, and items as [`DETAILS`] has them.
fn paragraphs(text: &str) -> String {
    let mut rendered = String::new();
    for paragraph in text.split("\n\n") {
        let is_list = paragraph.lines().any(|line| line.trim().contains("  "));
        if !rendered.is_empty() && !is_list {
            rendered.push_str(".PP\n");
        }
        if !is_list {
            rendered.push_str(&format!("{}\n", prose(&words(paragraph))));
            continue;
        }
        for line in paragraph.lines() {
            match line.trim().split_once("  ") {
                Some((tag, text)) => {
                    rendered.push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", escape(tag), prose(text.trim())));
                }
                None => rendered.push_str(&format!(".PP\n{}\n", prose(line.trim()))),
            }
        }
    }
    rendered
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn examples(name: &str) -> String {
    let mut section = String::from(".SH EXAMPLES\n");
    let examples = EXAMPLES.iter().find(|(page, _)| *page == name).map(|(_, examples)| *examples).unwrap_or_default();
    for (index, (purpose, code)) in examples.iter().enumerate() {
        let code: Vec<String> = code.lines().map(escape).collect();
        let paragraph = if index == 0 { "" } else { ".PP\n" };
        section.push_str(&format!("{paragraph}{}:\n.PP\n.RS 4\n.nf\n{}\n.fi\n.RE\n", prose(purpose), code.join("\n")));
    }
    section
}

fn see_also(name: &str) -> String {
    let command = name.strip_prefix("authctl-").unwrap_or_default();
    let related: &[&str] = match command.split('-').next().unwrap_or_default() {
        "" => &[
            "authctl.toml(5)",
            "authctl-agent(7)",
            "authctl-json(7)",
            "authctl-providers(7)",
            "authctl-recipes(7)",
            "authctl-security(7)",
        ],
        "login" => &["authctl.toml(5)", "authctl-providers(7)", "authctl-security(7)"],
        "profile" => &["authctl.toml(5)"],
        "agent" => &["authctl-agent(7)", "authctl-security(7)"],
        "verify" | "keys" => &["authctl.toml(5)", "authctl-security(7)"],
        "exec" => &["authctl.toml(5)", "authctl-recipes(7)", "authctl-security(7)"],
        "token" | "headers" | "helper" => &["authctl-agent(7)", "authctl-recipes(7)"],
        "demo" => &["authctl-dev-issuer(1)"],
        "dev" => &["authctl-demo(1)"],
        _ => &["authctl-agent(7)"],
    };
    let parent = command.rsplit_once('-').filter(|_| !command.starts_with("dev-"));
    let parent = parent.map(|(parent, _)| format!("authctl-{parent}(1)"));
    let top = (!command.is_empty()).then(|| "authctl(1)".to_owned());
    let all: Vec<String> = top.into_iter().chain(parent).chain(related.iter().map(|&page| page.to_owned())).collect();
    let all: Vec<String> = all.iter().map(|page| format!("\\fB{}", escape(page).replace('(', "\\fR("))).collect();
    format!(".SH SEE ALSO\n{}\n", all.join(",\n"))
}
