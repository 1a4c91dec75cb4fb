"""The OpenAPI document of each service, from the types that decode its requests. Unused when serving."""
