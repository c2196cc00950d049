//! Reads a whole number from JSON, however it is written.

use serde::{Deserialize, Deserializer, de};

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

/// The largest integer that every JSON parser can represent exactly (RFC 7493, section 2.2).
const MAX: i64 = (1 << 53) - 1;

/// Reads a whole number or null. `30.0` is one, as in JSON Schema (2020-12, section 4.2.3), and as some languages write
/// all their numbers.
///
/// # Errors
/// If it is not a whole number, does not fit into `N`, or cannot be represented exactly in JSON.
pub fn deserialize_whole_number<'de, D: Deserializer<'de>, N: TryFrom<i64>>(
    deserializer: D,
) -> Result<Option<N>, D::Error> {
    let number = match Option::<Number>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Number::Unsigned(number)) => i64::try_from(number).ok(),
        Some(Number::Signed(number)) => Some(number),
        // A number that is too large saturates, and is refused below.
        Some(Number::Float(number)) => (number.fract() == 0.0).then_some(number as i64),
    };
    number
        .filter(|number| (-MAX..=MAX).contains(number))
        .and_then(|number| N::try_from(number).ok())
        .map(Some)
        .ok_or_else(|| de::Error::custom("not a whole number that fits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<N: TryFrom<i64>>(text: &str) -> Option<N> {
        deserialize_whole_number(&mut serde_json::Deserializer::from_str(text)).ok()?
    }

    #[test]
    fn whole_number_may_be_written_as_a_float() {
        for text in ["30", "30.0", "3e1", "300e-1"] {
            assert_eq!(read::<u64>(text), Some(30), "{text}");
        }
        assert_eq!(read::<i64>("-5.0"), Some(-5));
        assert_eq!(read::<u64>("9007199254740991"), Some(9_007_199_254_740_991));
        assert!(
            deserialize_whole_number::<_, u64>(&mut serde_json::Deserializer::from_str("null"))
                .is_ok_and(|none| none.is_none())
        );
    }

    #[test]
    fn fractions_and_large_numbers_are_rejected() {
        for text in ["30.5", "-1", "9007199254740992", "9007199254740992.0", "1e300", "\"30\"", "true", "[30]"] {
            assert_eq!(read::<u64>(text), None, "{text}");
        }
    }
}
