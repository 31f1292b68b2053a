//! States at random go round; bytes at random do no harm.

use proptest::prelude::*;

use super::*;

/// Any bits but those of NaN, which do not equal themselves.
fn value() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |v| v.is_finite())
}

fn tensor() -> impl Strategy<Value = HostTensor> {
    prop::collection::vec(0_usize..4, 0..4).prop_flat_map(|shape| {
        let n: usize = shape.iter().product();
        prop::collection::vec(value(), n).prop_map(move |values| HostTensor { shape: shape.clone(), values })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn states_go_round(tensors in prop::collection::btree_map("[a-z.\"\\\\é\n]{1,12}", tensor(), 0..6)) {
        let mut state = StateDict::new();
        for (name, tensor) in tensors {
            state.insert(format!("p.{name}x"), tensor).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        state.write_safetensors(&path).unwrap();
        prop_assert_eq!(read(&path).unwrap().state, state);
    }

    #[test]
    fn random_bytes_are_typed_errors(
        head in prop::sample::select(vec![&b""[..], b"PK\x03\x04", b"\x80\x02", b"\x10\0\0\0\0\0\0\0{"]),
        tail in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (_folder, path) = file(&[head, &tail].concat());
        prop_assert!(read(&path).is_err());
    }
}
