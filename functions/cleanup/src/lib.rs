//! After success: makes the new version the stable one and removes what is no longer needed
