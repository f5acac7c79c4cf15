//! HTTPS in front, to the targets and for the REST API.
