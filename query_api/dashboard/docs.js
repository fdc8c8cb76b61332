"use strict";
// A script of its own, so that the page needs no inline one. Without a validator nothing leaves this host.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
