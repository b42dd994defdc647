//! Bytes as digits and letters only, so that a token is one word for a mouse,
//! a shell and a secret scanner.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `bytes` as a number of `width` digits, most significant first. `width`
/// must be enough for the bytes: 22 for 16, 43 for 32, 6 for 4.
pub fn encode(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut text = vec![b'0'; width];
    for digit in text.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or_default();
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    text.into_iter().map(char::from).collect()
}

/// The bytes that [`encode`] made the text from; nothing if it made none such.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut number = [0u8; N];
    for character in text.bytes() {
        let mut carry = u32::try_from(DIGITS.iter().position(|digit| *digit == character)?).ok()?;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 62 + carry;
            *byte = u8::try_from(value & 0xff).ok()?;
            carry = value >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_number_comes_back(id in any::<[u8; 16]>(), secret in any::<[u8; 32]>(), sum in any::<[u8; 4]>()) {
            prop_assert_eq!(decode::<16>(&encode(&id, 22)), Some(id));
            prop_assert_eq!(decode::<32>(&encode(&secret, 43)), Some(secret));
            prop_assert_eq!(decode::<4>(&encode(&sum, 6)), Some(sum));
        }
    }

    #[test]
    fn the_largest_fit_and_larger_are_refused() {
        assert_eq!(encode(&[0xff; 32], 43).len(), 43);
        assert_eq!(decode::<32>(&encode(&[0xff; 32], 43)), Some([0xff; 32]));
        assert_eq!(decode::<4>("zzzzzz"), None);
        assert_eq!(decode::<4>("00000-"), None);
    }
}
