//! Decodes the content coding of a response (RFC 9110, section 8.4.1), and UTF-16. None was offered, but a reply that a refresh
//! token was spent for must not be dropped because a gateway compresses it all the same.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF as ONE_BUFFER,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::secret::SecretBytes;

/// The maximum size of a response body in bytes, also when it is decoded.
pub(super) const MAX_BODY_SIZE: usize = 1024 * 1024;

/// How many codings of one response are decoded.
const MAX_CODINGS: usize = 3;

/// Returns the body without these `codings`, listed in the order in which they were applied. `None` if one is unknown, or the
/// body does not have it or is too long without it. The beginning of a body that was cut off is decoded to the beginning of a text.
pub(super) fn decoded(body: &[u8], codings: &str) -> Option<SecretBytes> {
    let is_applied = |coding: &&str| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity");
    let codings: Vec<&str> = codings.split(',').map(str::trim).filter(is_applied).collect();
    if codings.len() > MAX_CODINGS {
        return None;
    }
    let mut decoded = SecretBytes::default();
    decoded.extend(body);
    for coding in codings.iter().rev() {
        decoded = match coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => inflated(without_gzip_header(decoded.expose())?, 0)?,
            // Some servers leave out the header of zlib.
            "deflate" => {
                inflated(decoded.expose(), TINFL_FLAG_PARSE_ZLIB_HEADER).or_else(|| inflated(decoded.expose(), 0))?
            }
            _ => return None,
        };
    }
    Some(decoded)
}

/// Inflates into a buffer of the limit, since one that grows would leave copies in memory.
fn inflated(compressed: &[u8], flags: u32) -> Option<SecretBytes> {
    let mut output = vec![0; MAX_BODY_SIZE];
    let (status, _, length) = decompress(&mut DecompressorOxide::new(), compressed, &mut output, 0, flags | ONE_BUFFER);
    output.truncate(length);
    let output = SecretBytes::new(output);
    matches!(status, TINFLStatus::Done | TINFLStatus::FailedCannotMakeProgress).then_some(output)
}

/// Returns what follows the header of a gzip member (RFC 1952, section 2.3).
fn without_gzip_header(body: &[u8]) -> Option<&[u8]> {
    let (&[0x1f, 0x8b, 8, flags, ..], mut rest) = (body, body.get(10..)?) else { return None };
    let is_set = |flag: u8| flags & flag != 0;
    if is_set(4) {
        let length = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
        rest = rest.get(2 + length..)?;
    }
    for _ in [8, 16].into_iter().filter(|flag| is_set(*flag)) {
        rest = &rest[rest.iter().position(|byte| *byte == 0)? + 1..];
    }
    if is_set(2) { rest.get(2..) } else { Some(rest) }
}

/// Returns JSON that is written in UTF-16 (RFC 4627, section 3) as UTF-8.
pub(super) fn from_utf16(body: &[u8]) -> Option<SecretBytes> {
    let unit: fn([u8; 2]) -> u16 = match body {
        [0xff, 0xfe, ..] | [b'{', 0, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] | [0, b'{', ..] => u16::from_be_bytes,
        _ => return None,
    };
    // Twice as long at most: units of two bytes become at most three.
    let mut text = SecretBytes::with_capacity(body.len() * 2);
    for char in char::decode_utf16(body.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]))) {
        text.extend(char.ok()?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

    use super::*;

    const TEXT: &[u8] = br#"{"access_token":"a","more":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;

    fn gzip(flags: u8, header: &[u8], text: &[u8]) -> Vec<u8> {
        [&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3], header, &compress_to_vec(text, 6)[..], &[0; 8]].concat()
    }

    #[test]
    fn codings_are_decoded_in_any_form() {
        let [plain, zlib, raw] = [gzip(0, b"", TEXT), compress_to_vec_zlib(TEXT, 6), compress_to_vec(TEXT, 6)];
        let twice = gzip(0, b"", &zlib);
        for (codings, body) in [
            ("gzip", plain.clone()),
            ("GZIP", plain.clone()),
            ("x-gzip", plain.clone()),
            ("identity, gzip", plain.clone()),
            ("gzip,", plain),
            ("gzip", gzip(4 | 8 | 16 | 2, b"\x02\0ab name\0comment\0hc", TEXT)),
            ("deflate", zlib),
            ("Deflate", raw),
            ("deflate, gzip", twice),
            ("identity", TEXT.to_vec()),
            ("", TEXT.to_vec()),
        ] {
            assert_eq!(decoded(&body, codings).expect(codings).expose(), TEXT, "{codings}");
        }
    }

    #[test]
    fn unknown_coding_and_a_bomb_are_not_decoded() {
        let bomb = gzip(0, b"", &vec![b' '; MAX_BODY_SIZE + 1]);
        assert!(bomb.len() < 10_000);
        let largest = gzip(0, b"", &vec![b' '; MAX_BODY_SIZE]);
        assert_eq!(decoded(&largest, "gzip").expect("fits").expose().len(), MAX_BODY_SIZE);
        let four = "gzip, gzip, gzip, gzip";
        for (codings, body) in [
            ("gzip", bomb),
            ("br", TEXT.to_vec()),
            ("gzip", TEXT.to_vec()),
            ("gzip", b"\x1f\x8b\x08".to_vec()),
            ("gzip", gzip(4, b"\xff\xff", b"")),
            ("deflate", TEXT.to_vec()),
            (four, gzip(0, b"", TEXT)),
        ] {
            assert!(decoded(&body, codings).is_none(), "{codings}");
        }
        let cut = gzip(0, b"", TEXT);
        let begun = decoded(&cut[..cut.len() / 2], "gzip").expect("a beginning");
        assert!(TEXT.starts_with(begun.expose()) && begun.expose().len() < TEXT.len());
    }

    #[test]
    fn utf_16_is_read_as_text() {
        let text = "{\"a\":\"\u{e4}\u{1f511}\"}";
        for (mark, to_bytes) in [
            (&[0xff, 0xfe][..], u16::to_le_bytes as fn(u16) -> [u8; 2]),
            (&[], u16::to_le_bytes),
            (&[0xfe, 0xff], u16::to_be_bytes),
            (&[], u16::to_be_bytes),
        ] {
            let body = [mark, &text.encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>()].concat();
            let read = from_utf16(&body).expect("text");
            assert_eq!(std::str::from_utf8(read.expose()).expect("UTF-8").trim_start_matches('\u{feff}'), text);
        }
        for body in [&b"{}"[..], b"", b"\0\0", b"\xef\xbb\xbf{}", b"\xff\xfe\0\xd8"] {
            assert!(from_utf16(body).is_none(), "{body:?}");
        }
    }
}
