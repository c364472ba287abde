// A script of its own, since the content security policy allows none in the page.

// Swagger UI has dark colours, and leaves to the page when to use them.
const dark = matchMedia("(prefers-color-scheme: dark)");
const setColours = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", setColours);
setColours();

/** The description up to its first heading introduces the operations; the tables after it belong below them. */
const tablesBelowOperations = ({ React, getComponent, specSelectors }) => ({
  statePlugins: {
    spec: {
      wrapSelectors: {
        selectInfoDescriptionField: (select) => (...args) => select(...args)?.split(/^## /m)[0],
      },
    },
  },
  wrapComponents: {
    Models: (Models) => (props) => {
      const description = specSelectors.info().get("description");
      const source = description.slice(description.search(/^## /m));
      return React.createElement(React.Fragment, null,
        React.createElement("section", { className: "tables" },
          React.createElement(getComponent("Markdown", true), { source })),
        React.createElement(Models, props));
    },
  },
});

/** Of two ways to authorize, each of which asks for the focus, most people want the first: userid and password. */
const authorizeByUserid = ({ React }) => ({
  wrapComponents: {
    authorizationPopup: (Popup) => class extends React.Component {
      componentDidMount() {
        document.getElementById("oauth_username")?.focus();
      }

      render() {
        return React.createElement(Popup, this.props);
      }
    },
  },
});

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [tablesBelowOperations, authorizeByUserid],
  deepLinking: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  // Neither is a link that makes the page show another's description.
  queryConfigEnabled: false,
  validatorUrl: null,
});
