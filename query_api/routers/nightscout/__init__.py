"""A Nightscout site at the root of the host, so that apps that exist push to it and read from it unchanged.

The person is in the credential, never in a path. Entries hold what a sender sent and nothing else; the forecast is in
``devicestatus``. Answers have the forms that clients' sources ask for; Nightscout's own code (AGPL) is not used.
"""
