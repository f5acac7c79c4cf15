//! Integration tests against the real Traefik.
