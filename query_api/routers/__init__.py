"""The routes, a file a resource.

A new one says above its function how it is asked (`router.get`, `router.post`) and who may ask (`query_api.access`);
`ROUTERS` of `query_api.app` names the file.
"""
