//! A route as it is stored.

use serde::de::Error as _;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::settings::Settings;
use super::{Route, RouteSpec, Target};
use crate::error::Result;

/// Stands where a route has its target if it asks for more. Versions of this crate that do not know that refuse
/// such a route, and show this: they would serve it without its middlewares.
const LATER: &str =
    "not for this version of traefik-router, which knows no route with settings: use a later one";

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = if self.settings.is_some() { 5 } else { 3 };
        let mut route = serializer.serialize_struct("Route", fields)?;
        route.serialize_field("spec", &self.spec)?;
        match &self.settings {
            None => route.serialize_field("target", &self.target)?,
            Some(_) => route.serialize_field("target", LATER)?,
        }
        route.serialize_field("data", &self.data)?;
        if let Some(settings) = &self.settings {
            route.serialize_field("server", &self.target)?;
            route.serialize_field("settings", settings)?;
        }
        route.end()
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        stored.accepted().map_err(D::Error::custom)
    }
}

/// The fields of a route that is stored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    spec: RouteSpec,
    target: String,
    data: Value,
    #[serde(default)]
    server: Option<Target>,
    #[serde(default)]
    settings: Option<Box<Settings>>,
}

impl Stored {
    /// The route, with each field accepted as if a caller had set it.
    fn accepted(self) -> Result<Route> {
        let mut route = Route {
            target: match self.server {
                Some(server) => server,
                None => Target::new(self.target)?,
            },
            spec: self.spec,
            data: self.data,
            settings: None,
        };
        if let Some(settings) = self.settings {
            let accepted = settings.accepted(&route.target);
            let accepted = accepted.map_err(|why| route.invalid(&why))?;
            route = route.with(|settings| *settings = accepted);
        }
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::asking;

    #[test]
    fn settings_come_back_as_stored() {
        for way in 0..7 {
            let route = asking(way, Route::new("/a/", "http://one").unwrap().data("d"));
            let text = serde_json::to_string(&route).unwrap();
            let back: Route = serde_json::from_str(&text).unwrap();
            assert_eq!(back, route, "{text}");
            assert_eq!(text.contains("settings"), way > 0, "{text}");
        }
        let route = Route::new("/a/", "http://one").unwrap().weight(2);
        assert_ne!(route, route.clone().weight(1));
        assert_eq!(route.weight(1), Route::new("/a/", "http://one").unwrap());
    }

    /// What the version before knows of a route.
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "they are only read")]
    struct Before {
        spec: RouteSpec,
        target: Target,
        data: Value,
    }

    #[test]
    fn version_before_refuses_settings() {
        for way in 0..7 {
            let route = asking(way, Route::new("/a/", "http://one").unwrap());
            let text = serde_json::to_string(&route).unwrap();
            match serde_json::from_str::<Before>(&text) {
                Ok(_) => assert_eq!(way, 0, "{text}"),
                Err(error) => assert!(error.to_string().contains("use a later one"), "{error}"),
            }
        }
        // And this one what later versions add.
        for (text, why) in [
            (
                r#"{"spec":"/a/","target":"http://t","data":1,"more":2}"#,
                "`more`",
            ),
            (
                r#"{"spec":"/a/","target":"","data":1,"server":"http://t","settings":{"more":2}}"#,
                "`more`",
            ),
            (
                r#"{"spec":"/a/","target":"","data":1,"server":"http://t","settings":{"service":{"more":2}}}"#,
                "route /a/: \"more\" is no setting",
            ),
        ] {
            let error = serde_json::from_str::<Route>(text).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
