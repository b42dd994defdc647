//! The file `MLmodel` that lies beside a model's bytes, as far as it is read here.

/// Its name.
pub const FILE: &str = "MLmodel";
/// One that is larger is not read, in bytes.
pub const BYTES_MAX: usize = 1 << 20;
/// The most flavors that are taken.
const FLAVORS_MAX: usize = 100;
const FLAVOR_BYTES_MAX: usize = 128;

/// The names below `flavors:`, in their order; what is no name is passed over.
#[must_use]
pub fn flavors(text: &str) -> Vec<String> {
    let below = text.lines().skip_while(|line| line.trim_end() != "flavors:").skip(1);
    let below = below.take_while(|line| line.starts_with(' ') || line.trim().is_empty());
    let name = |line: &str| {
        let (word, _) = line.strip_prefix("  ")?.split_once(':')?;
        let fits = !word.is_empty() && word.len() <= FLAVOR_BYTES_MAX;
        (fits && !word.starts_with([' ', '-', '#'])).then(|| word.to_owned())
    };
    below.filter_map(name).take(FLAVORS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavors_are_the_keys_of_one_block() {
        let text = "artifact_path: model\nflavors:\n  python_function:\n    env:\n      conda: c.yaml\n    \
                    loader_module: mlflow.sklearn\n  sklearn:\n    code: null\n  empty: {}\nmlflow_version: 3\n  x:\n";
        assert_eq!(flavors(text), ["python_function", "sklearn", "empty"]);
        for none in ["", "flavors: {}\n", "flavors:\nother:\n  x:\n", "flavors:\n  - a\n  # b:\n"] {
            assert!(flavors(none).is_empty(), "{none:?}");
        }
        let many: String = (0..500).map(|at| format!("  f{at}:\n")).collect();
        assert_eq!(flavors(&format!("flavors:\n{many}")).len(), FLAVORS_MAX);
    }
}
