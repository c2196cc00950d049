//! The recipes of authctl-recipes(7), as the page prints them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

#[allow(dead_code, reason = "tests/docs uses the rest")]
#[path = "../../docs/roff.rs"]
mod roff;

/// The files of a recipe, by their path, and the shell code that is run then.
pub struct Recipe {
    pub files: Vec<(String, String)>,
    pub code: String,
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/authctl-recipes.7");
    fs::read_to_string(path).expect("the page")
}

/// Returns the names of all recipes.
pub fn names() -> Vec<String> {
    page().lines().filter_map(|line| line.strip_prefix(".Ss ")).map(str::to_owned).collect()
}

impl Recipe {
    /// Reads a recipe. A display after a line `.Pa FILE :` is the content of that file, any other is shell code.
    pub fn named(name: &str) -> Self {
        let page = page();
        let (_, section) = page.split_once(&format!(".Ss {name}\n")).unwrap_or_else(|| panic!("no recipe for {name}"));
        let end = [".Ss ", ".Sh "].iter().filter_map(|heading| section.find(&format!("\n{heading}"))).min();
        let section = &section[..end.expect("a section after it")];
        let (mut recipe, mut before) = (Self { files: Vec::new(), code: String::new() }, section);
        while let Some((text, rest)) = before.split_once(".Bd ") {
            let (display, rest) = rest.split_once(".Ed").expect("the end of the display");
            let display = roff::literal_text(&format!(".Bd {display}"));
            match text.lines().next_back().and_then(|line| line.strip_prefix(".Pa ")?.strip_suffix(" :")) {
                Some(path) => recipe.files.push((path.to_owned(), display)),
                None => recipe.code.push_str(&display),
            }
            before = rest;
        }
        recipe
    }

    /// Writes the files, those in `~` to `home` and the others to `dir`. Scripts are executable.
    pub fn write_files(&self, home: &Path, dir: &Path) {
        for (path, content) in &self.files {
            let path = path.strip_prefix("~/").map_or_else(|| dir.join(path), |path| home.join(path));
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(&path, content).expect("written");
            let mode = if content.starts_with("#!") { 0o700 } else { 0o600 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        }
    }

    /// Returns the content of the only file whose name ends so.
    pub fn file(&self, end: &str) -> &str {
        let mut found = self.files.iter().filter(|(path, _)| path.ends_with(end));
        let file = found.next().unwrap_or_else(|| panic!("no file {end}"));
        assert!(found.next().is_none(), "one file {end}");
        &file.1
    }
}
