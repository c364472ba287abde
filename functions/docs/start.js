// A script of its own, since the content security policy allows none in the page.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  deepLinking: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  // Neither is a link that makes the page show another's description.
  queryConfigEnabled: false,
  validatorUrl: null,
});
