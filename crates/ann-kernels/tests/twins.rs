//! Every set against the scalar one: the same integers, and the same floats to the last bit, on
//! slices of every length.

#![allow(clippy::expect_used, reason = "tests")]

use ann_kernels::{CODE_LANES, Kernels, Pair, Rows, scalar};
use half::f16;
use proptest::collection::vec;
use proptest::prelude::*;

type Of<T> = fn(&Kernels) -> T;

const INTEGERS: [Of<Pair<i8, i8, i32>>; 3] = [|k| k.dot_i8, |k| k.l2_i8, |k| k.l1_i8];
const FLOATS: [Of<Pair<f32, f32, f32>>; 3] = [|k| k.dot_f32, |k| k.l2_f32, |k| k.l1_f32];
const HALVES: [Of<Pair<f32, u16, f32>>; 3] = [|k| k.dot_f16, |k| k.l2_f16, |k| k.l1_f16];

/// Two slices of one length.
fn pair<S>(element: S, length_max: usize) -> impl Strategy<Value = (Vec<S::Value>, Vec<S::Value>)>
where
    S: Strategy + Clone,
{
    (0..=length_max)
        .prop_flat_map(move |length| (vec(element.clone(), length), vec(element.clone(), length)))
}

/// A query, a table of rows of its length, and the rows to take.
fn table<S>(
    element: S,
    lanes: usize,
) -> impl Strategy<Value = (Vec<S::Value>, Vec<S::Value>, Vec<u32>)>
where
    S: Strategy + Clone,
{
    (1_usize..=6, 1_usize..=9).prop_flat_map(move |(width, rows)| {
        let width = width * lanes;
        let numbers = vec(0..u32::try_from(rows).expect("few"), 0..=20);
        (vec(element.clone(), width), vec(element.clone(), width * rows), numbers)
    })
}

fn rows_agree<T>(of: Of<Rows<T>>, (query, table, rows): &(Vec<T>, Vec<T>, Vec<u32>)) {
    let mut meant = vec![0; rows.len()];
    of(&scalar::KERNELS)(query, table, rows, &mut meant);
    for set in Kernels::available() {
        let mut got = vec![0; rows.len()];
        of(&set)(query, table, rows, &mut got);
        assert_eq!(got, meant, "{}", set.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bytes((a, b) in pair(any::<i8>(), 200)) {
        for of in INTEGERS {
            for set in Kernels::available() {
                prop_assert_eq!(of(&set)(&a, &b), of(&scalar::KERNELS)(&a, &b), "{}", set.name);
            }
        }
    }

    #[test]
    fn floats((a, b) in pair(-100.0_f32..100.0, 200)) {
        let halves: Vec<u16> = b.iter().map(|b| f16::from_f32(*b).to_bits()).collect();
        for set in Kernels::available() {
            for of in FLOATS {
                let (got, meant) = (of(&set)(&a, &b), of(&scalar::KERNELS)(&a, &b));
                prop_assert_eq!(got.to_bits(), meant.to_bits(), "{}: {} {}", set.name, got, meant);
            }
            for of in HALVES {
                let (got, meant) = (of(&set)(&a, &halves), of(&scalar::KERNELS)(&a, &halves));
                prop_assert_eq!(got.to_bits(), meant.to_bits(), "{}: {} {}", set.name, got, meant);
            }
        }
    }

    #[test]
    fn rows_of_codes(drawn in table(-127_i8..=127, CODE_LANES)) {
        rows_agree(|k| k.dot_codes_rows, &drawn);
        rows_agree(|k| k.l1_codes_rows, &drawn);
    }

    #[test]
    fn rows_of_any_bytes(drawn in table(any::<i8>(), 1)) {
        rows_agree(|k| k.dot_i8_rows, &drawn);
    }

    #[test]
    fn rows_of_bits(drawn in table(any::<u64>(), 1)) {
        rows_agree(|k| k.hamming_rows, &drawn);
        rows_agree(|k| k.and_rows, &drawn);
    }
}

#[test]
fn the_extremes_fit() {
    for set in Kernels::available() {
        for (a, b) in [(127, 127), (-127, 127), (-127, -127)] {
            let (query, table) = (vec![a; 16_384], vec![b; 16_384]);
            let mut out = [0];
            (set.dot_codes_rows)(&query, &table, &[0], &mut out);
            assert_eq!(out[0], i32::from(a) * i32::from(b) * 16_384, "{}", set.name);
        }
        let low = vec![i8::MIN; 16_384];
        assert_eq!((set.dot_i8)(&low, &low), 16_384 * 16_384, "{}", set.name);
        assert_eq!((set.l2_i8)(&low, &vec![i8::MAX; 16_384]), 255 * 255 * 16_384, "{}", set.name);
    }
}

#[test]
fn the_meaning_is_the_textbook_s() {
    let (a, b) = ([1.0, 2.0, -3.0], [4.0, -5.0, 6.0]);
    assert_eq!(scalar::dot_f32(&a, &b), 4.0 - 10.0 - 18.0);
    assert_eq!(scalar::l2_f32(&a, &b), 9.0 + 49.0 + 81.0);
    assert_eq!(scalar::l1_f32(&a, &b), 3.0 + 7.0 + 9.0);
    assert_eq!(scalar::dot_i8(&[1, -2], &[3, 4]), -5);
    assert_eq!(scalar::l1_i8(&[1, -2], &[3, 4]), 8);
    assert_eq!(scalar::l2_i8(&[1, -2], &[3, 4]), 40);
    assert_eq!(scalar::hamming(&[0b1011], &[0b0110]), 3);
    assert_eq!(scalar::and(&[0b1011], &[0b0110]), 1);
}
