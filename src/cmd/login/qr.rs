//! Shows the address of a device login as a QR code.

use std::io::{IsTerminal as _, Write as _};

use url::Url;

use crate::app::App;

/// Shows a QR code on stderr, if that is a terminal.
pub(super) fn show(app: &App, url: &Url) {
    let mut stderr = std::io::stderr();
    if app.common.quiet || !stderr.is_terminal() || app.environment.dumb_terminal {
        return;
    }
    if let Ok(code) = qrcode::QrCode::with_error_correction_level(url.as_str(), qrcode::EcLevel::L) {
        use qrcode::render::unicode::Dense1x2;
        // Scanners expect dark modules on a light background: white on black is drawn if colours are allowed, else the
        // terminal's colours, which are usually light on dark.
        let image = code.render().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
        let (on, off) = if app.environment.no_color { ("", "") } else { ("\u{1b}[97;40m", "\u{1b}[0m") };
        for line in image.lines() {
            let _ = writeln!(stderr, "{on}{line}{off}");
        }
        let _ = writeln!(stderr);
    }
}
