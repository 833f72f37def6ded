"""Who calls, for whom, and what they may do: JWT (RS256) made by `airis auth token`, checked by every service.

What servers use:

    authenticator = open_authenticator(settings.auth, contract_permissions())     # .config, .permissions
    token = bearer_token(metadata.get("authorization"))                           # .bearer; None: no token
    principal = authenticator.authenticate(token, metadata.get("airis-tenant"))   # .principal; a few microseconds
    principal.tenant, principal.subject, principal.expires_at

The guard of a server (`resilience.grpc.guard`) then asks for the permission that the contract names.

All of these raise `UnauthenticatedError` or `PermissionDeniedError` only. With `auth.enabled: false` the
authenticator is `OpenDoor`: everybody is the tenant "default" with every permission.
"""
