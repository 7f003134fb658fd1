//! Options from three places: command line over `PEERCHANNEL_*` variables over the file.
//!
//! The mesh options are declared once, for clap. A variable or a line of the file is handed
//! to the same parser as if it had been typed, so that all three mean the same and fail with
//! the same words, with the place put before them.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{ArgAction, CommandFactory as _, Parser};
use toml::{Table, Value};

use super::{Global, MeshOptions};
use crate::failure::Failure;
use crate::tuning::Tuning;

/// Longest file that is read: a thousand times what options need.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The prefix of all variables.
const PREFIX: &str = "PEERCHANNEL_";

/// What one place can set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Layer {
    #[command(flatten)]
    mesh: MeshOptions,
    #[arg(long)]
    log: Option<String>,
}

/// What was said outside the command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    defaults: MeshOptions,
    /// What to log.
    pub(crate) log: Option<String>,
    /// The numbers of the mesh's configuration.
    pub(crate) tuning: Tuning,
}

impl Settings {
    /// The options of a command with everything said elsewhere beneath.
    pub(crate) fn complete(&self, options: MeshOptions) -> MeshOptions {
        options.over(self.defaults.clone())
    }
}

/// Reads the variables and the file.
pub(crate) fn load(global: &Global) -> Result<Settings, Failure> {
    let variables = from_variables(|name| std::env::var_os(name))?;
    let path = global.config.clone().or_else(|| std::env::var_os("PEERCHANNEL_CONFIG").map(Into::into));
    let (file, tuning) = match path {
        Some(path) => from_file(&path)?,
        None => (Layer::default(), Tuning::default()),
    };
    Ok(Settings {
        log: global.log.clone().or(variables.log).or(file.log),
        defaults: variables.mesh.over(file.mesh),
        tuning,
    })
}

fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Layer, Failure> {
    let mut all = Vec::new();
    for argument in Layer::command().get_arguments() {
        // The variable PEERCHANNEL_PASSWORD is a credential, not an option.
        let Some(option) = argument.get_long().filter(|option| *option != "password") else { continue };
        let name = format!("{PREFIX}{}", option.to_uppercase().replace('-', "_"));
        let Some(value) = variable(&name).filter(|value| !value.is_empty()) else { continue };
        let typed = match argument.get_action() {
            ArgAction::SetTrue => flag(
                option,
                truth(&value).ok_or_else(|| {
                    Failure::usage(format!("{name}={}: use 1 or 0, true or false", value.display()))
                })?,
            ),
            // Lists are separated by white space: commas are part of a resolver.
            ArgAction::Append => {
                let text = value.to_string_lossy().into_owned();
                text.split_whitespace().map(|item| option_of(option, OsStr::new(item))).collect()
            }
            _ => vec![option_of(option, &value)],
        };
        parse(&typed).map_err(|why| Failure::usage(format!("variable {name}: {why}")))?;
        all.extend(typed);
    }
    parse(&all).map_err(|why| Failure::usage(format!("variables {PREFIX}*: {why}")))
}

fn from_file(path: &Path) -> Result<(Layer, Tuning), Failure> {
    let fault = |why: String| Failure::usage(format!("config file {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| fault(format!("cannot read it: {error}")))?.len();
    if size > FILE_BYTES_MAX {
        return Err(fault(format!("{size} bytes are too many, at most {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fault(format!("cannot read it: {error}")))?;
    parse_file(&text).map_err(fault)
}

fn parse_file(text: &str) -> Result<(Layer, Tuning), String> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let tuning = match table.remove("tuning") {
        None => Tuning::default(),
        Some(tuning) => tuning
            .try_into()
            .map_err(|error: toml::de::Error| format!("table [tuning]: {}", error.message()))?,
    };
    let command = Layer::command();
    let mut all = Vec::new();
    for (key, value) in &table {
        let known = |argument: &&clap::Arg| argument.get_long() == Some(&key.replace('_', "-"));
        let Some(argument) = command.get_arguments().find(known) else {
            let names: Vec<_> = command
                .get_arguments()
                .filter(|a| !a.is_hide_set())
                .filter_map(clap::Arg::get_long)
                .collect();
            return Err(format!("{key:?} is no option: use {} or the table [tuning]", names.join(", ")));
        };
        let option = argument.get_long().unwrap_or_default();
        let typed = match (argument.get_action(), value) {
            (ArgAction::SetTrue, Value::Boolean(set)) => flag(option, *set),
            (ArgAction::SetTrue, _) => return Err(format!("{key} must be true or false")),
            (ArgAction::Append, Value::Array(items)) => items
                .iter()
                .map(|item| Ok(option_of(option, &scalar(key, item)?)))
                .collect::<Result<_, String>>()?,
            (_, value) => vec![option_of(option, &scalar(key, value)?)],
        };
        parse(&typed).map_err(|why| format!("{key}: {why}"))?;
        all.extend(typed);
    }
    Ok((parse(&all)?, tuning))
}

/// The text of a plain value.
fn scalar(key: &str, value: &Value) -> Result<OsString, String> {
    match value {
        Value::String(text) => Ok(text.into()),
        Value::Integer(number) => Ok(number.to_string().into()),
        _ => Err(format!("{key} must be a text or a number, found {}", value.type_str())),
    }
}

fn flag(option: &str, set: bool) -> Vec<OsString> {
    if set { vec![format!("--{option}").into()] } else { Vec::new() }
}

fn option_of(option: &str, value: &OsStr) -> OsString {
    let mut typed = OsString::from(format!("--{option}="));
    typed.push(value);
    typed
}

fn truth(value: &OsStr) -> Option<bool> {
    match value.to_str()?.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// What clap says in one line, without its decoration.
fn parse(typed: &[OsString]) -> Result<Layer, String> {
    Layer::try_parse_from(typed).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("error: ").unwrap_or(first).to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &[(&str, &str)]) -> Result<Layer, Failure> {
        from_variables(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn variables_mean_what_the_options_mean() {
        let layer = variables(&[
            ("PEERCHANNEL_NAME", "ann"),
            ("PEERCHANNEL_OPEN", "1"),
            ("PEERCHANNEL_ECHO", "off"),
            ("PEERCHANNEL_RESOLVER", "lan static:h:1,i:2"),
            ("PEERCHANNEL_LOG", "debug"),
        ]);
        let layer = layer.unwrap();
        assert_eq!(layer.mesh.name.as_deref(), Some("ann"));
        assert!(layer.mesh.open && !layer.mesh.echo);
        assert_eq!(layer.mesh.resolver, ["lan", "static:h:1,i:2"]);
        assert_eq!(layer.log.as_deref(), Some("debug"));
    }

    #[test]
    fn a_bad_variable_is_named_with_its_value() {
        let text = variables(&[("PEERCHANNEL_LISTEN", "port 7")]).unwrap_err().to_string();
        assert!(text.contains("PEERCHANNEL_LISTEN") && text.contains("port 7"), "{text}");
        let text = variables(&[("PEERCHANNEL_ECHO", "maybe")]).unwrap_err().to_string();
        assert!(text.contains("PEERCHANNEL_ECHO=maybe"), "{text}");
    }

    #[test]
    fn a_file_sets_options_and_tuning() {
        let text = "name = \"ann\"\nresolver = [\"lan\"]\nmin_neighbors = 2\necho = true\n\
                    [tuning]\nmax_message = 1000\n";
        let (layer, tuning) = parse_file(text).unwrap();
        assert_eq!(layer.mesh.name.as_deref(), Some("ann"));
        assert_eq!((layer.mesh.min_neighbors, layer.mesh.echo), (Some(2), true));
        assert_eq!(tuning.max_message, Some(1000));
    }

    #[test]
    fn a_bad_file_says_which_key_and_what_there_is() {
        let check = |text: &str, part: &str| {
            let error = parse_file(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("nmae = \"x\"", "\"nmae\" is no option: use name");
        check("listen = \"x\"", "listen: invalid value 'x'");
        check("echo = 1", "echo must be true or false");
        check("name = 1.5", "name must be a text or a number, found float");
        check("[tuning]\nfoo = 1", "foo");
        check("name = ", "line 1");
        check("open = true\nask_password = true", "cannot be used with");
    }
}
