pub(crate) use toml::Table as ModelConfig;
