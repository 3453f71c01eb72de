"""The drivers for HTTP libraries besides httpx and httpx2; none imports its library."""
