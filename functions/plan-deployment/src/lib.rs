//! Validates the request, locks the service, discovers what runs, and resolves the plan
