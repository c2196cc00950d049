//! The HTML pages of the redirect listener and the embedded issuer: escaped text in one layout.

use super::sanitize_line;

/// The style sheet of every page.
pub const STYLE: &str = include_str!("style.css");

/// Escapes text for element content and quoted attributes. Characters that could disguise the text are replaced.
#[must_use]
pub fn escape(text: &str) -> String {
    let text = sanitize_line(text);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Returns an element with an error message.
#[must_use]
pub fn error_message(message: &str) -> String {
    format!(r#"<p class="error" role="alert">{}</p>"#, escape(message))
}

/// Returns a page. `main` is HTML, the rest is text.
#[must_use]
pub fn page(title: &str, site: &str, main: &str, footer: &str) -> String {
    let [title, site, footer] = [title, site, footer].map(escape);
    format!(
        r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex"><link rel="icon" href="data:,"><title>{title} - {site}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>{main}</main><footer>{footer}</footer></body></html>"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_out_of_attributes_and_elements() {
        let text = escape("\"'><script>&\u{202e}\n");
        assert_eq!(text, "&quot;&#39;&gt;&lt;script&gt;&amp;\u{fffd}\u{fffd}");
        let page = page("<b>", "<i>", "<p>", "<u>");
        assert!(
            page.contains("<title>&lt;b&gt; - &lt;i&gt;</title>") && page.contains("<h1>&lt;b&gt;</h1><p>"),
            "{page}"
        );
        assert!(page.contains("<footer>&lt;u&gt;</footer>"), "{page}");
    }
}
