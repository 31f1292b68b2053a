//! Rules about the source tree itself, as tests: dependency arrows, file sizes, documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Of the checkout that the test runs in: one that shares its build cache with another may run a binary built in that one.
fn root() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is"))
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n == "target" || n == ".git") {
                continue;
            }
            files(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["src", "crates", "tests", "benches", "examples"] {
        files(&root().join(folder), "rs", &mut found);
    }
    assert!(found.len() > 30, "found only {} source files", found.len());
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The arrows of docs/architecture.md: who may depend on whom among our own crates.
#[test]
fn crates_depend_only_along_the_data_flow() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("unlearn-data", &[][..]),
        ("unlearn-curvature", &[]),
        ("unlearn-models", &["unlearn-curvature"]),
        ("unlearn-train", &["unlearn-data", "unlearn-models", "unlearn-curvature"]),
        ("unlearn-prune", &["unlearn-train", "unlearn-data", "unlearn-models", "unlearn-curvature"]),
        (
            "unlearn-algos",
            &["unlearn-train", "unlearn-prune", "unlearn-data", "unlearn-models", "unlearn-curvature"],
        ),
        ("unlearn-eval", &["unlearn-data", "unlearn-models"]),
        ("unlearn-cli", &["unlearn"]),
    ]);
    for (name, allowed) in &allowed {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        for section in ["dependencies", "dev-dependencies"] {
            let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
            for dependency in dependencies.keys().filter(|d| d.starts_with("unlearn")) {
                assert!(
                    allowed.contains(&dependency.as_str()),
                    "{name} must not depend on {dependency} ({section}); see docs/architecture.md"
                );
            }
        }
    }
}

#[test]
fn library_crates_name_no_backend() {
    for crate_name in ["data", "curvature", "models", "train", "prune", "algos", "eval"] {
        let folder = root().join(format!("crates/unlearn-{crate_name}/src"));
        let mut sources = Vec::new();
        files(&folder, "rs", &mut sources);
        for path in sources {
            let name = shown(&path);
            let is_test =
                name.ends_with("/tests.rs") || name.ends_with("/testing.rs") || name.contains("/tests/");
            // The kernels of flex ask whether a tensor lies there (docs/architecture.md).
            if is_test || name.contains("/src/flex/") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            // Tests and doc examples choose a device; the code before the tests (a module of the same file) must not.
            let mut parts = text.split("#[cfg(test)]");
            let mut code = parts.next().unwrap().to_owned();
            for part in parts.take_while(|part| !part.trim_start().starts_with("mod tests {")) {
                code.push_str(part);
            }
            for line in code.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
                for backend in ["default", "flex", "ndarray", "wgpu", "vulkan", "cuda"] {
                    let word = format!("Device::{backend}(");
                    assert!(!line.contains(&word), "{name}: {word} in library code: {line}");
                }
            }
        }
    }
}

#[test]
fn files_stay_small() {
    let mut lengths = Vec::new();
    for path in rust_files() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines; split it where an idea ends", shown(&path));
        lengths.push(lines);
    }
    lengths.sort_unstable();
    let most = lengths[lengths.len() * 9 / 10];
    assert!(most <= 420, "nine files in ten should have at most 420 lines; here it is {most}");
}

#[test]
fn no_doc_example_is_ignored_and_no_test_is() {
    for path in rust_files() {
        if path.ends_with("tests/it/tidy.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("```ignore"), "{}: a doc example that is never compiled", shown(&path));
        assert!(!text.contains("#[ignore"), "{}: a test that is never run", shown(&path));
    }
}

#[test]
fn every_example_is_short() {
    let mut found = Vec::new();
    files(&root().join("examples"), "rs", &mut found);
    assert!(!found.is_empty());
    for path in found {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 80, "{} has {lines} lines; an example fits a screen", shown(&path));
    }
}

/// Relative links in the Markdown files lead somewhere.
#[test]
fn markdown_links_resolve() {
    let mut found =
        vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("CHANGELOG.md")];
    files(&root().join("docs"), "md", &mut found);
    let mut broken = BTreeSet::new();
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        for part in text.split("](").skip(1) {
            let Some(target) = part.split(')').next() else { continue };
            let file = target.split('#').next().unwrap();
            if file.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            if !path.parent().unwrap().join(file).exists() {
                broken.insert(format!("{}: {target}", shown(&path)));
            }
        }
    }
    assert!(broken.is_empty(), "links to nowhere: {broken:#?}");
}

#[test]
fn every_method_has_a_row_in_the_tables() {
    for page in ["README.md", "docs/methods.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        for card in unlearn::algos::cards() {
            assert!(text.contains(&format!("\n| `{}` |", card.name)), "{page}: no row for {}", card.name);
        }
    }
}

/// The two commands of the README are the ones that CI runs.
#[test]
fn readme_and_ci_agree() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(readme.contains("cargo run --release -- demo"));
    assert!(readme.contains("cargo test --workspace"));
    assert!(ci.contains("cargo test --locked --workspace"));
}
