/* Adds the page's token to every request to this server, and renews an expired token. Runs before Gradio. */
(() => {
  "use strict";
  const HEADER = "x-passkb-token";
  const tokenIn = (root) => root.querySelector('meta[name="passkb-token"]')?.content ?? "";
  let token = tokenIn(document);
  const plainFetch = window.fetch.bind(window);
  const fetchToken = async () => {
    const answer = await plainFetch(location.pathname, { headers: { accept: "text/html" }, credentials: "same-origin", cache: "no-store" });
    token = tokenIn(new DOMParser().parseFromString(await answer.text(), "text/html"));
  };
  let renewal = null; // shared by requests that are refused at the same time
  const renewToken = () => (renewal ??= fetchToken().finally(() => (renewal = null)));
  const isOwn = (input) => new URL(input instanceof Request ? input.url : input, location.href).origin === location.origin;
  const signed = (input, options) => {
    const headers = new Headers(options?.headers ?? (input instanceof Request ? input.headers : undefined));
    headers.set(HEADER, token);
    return plainFetch(input instanceof Request ? input.clone() : input, { ...options, headers });
  };
  const isRefused = (answer) => answer.status === 403 && answer.headers.has("x-passkb-refused");
  const isSignedOut = (answer) => answer.status === 401 && answer.headers.has("x-passkb-refused");
  const never = new Promise(() => {}); // an outdated page sends no more requests
  let outOfDate = false;

  window.fetch = async (input, options) => {
    if (!isOwn(input)) return plainFetch(input, options);
    if (outOfDate) return never;
    let answer = await signed(input, options);
    if (isRefused(answer)) {
      await renewToken();
      answer = await signed(input, options);
    }
    if (isSignedOut(answer)) return stop("You are signed out, so nothing was changed.", "Sign in");
    if (isRefused(answer)) return stop("This page is out of date, so nothing was changed.", "Reload");
    return answer;
  };

  /* Shows that the server refused a click. Reloading leads to the sign-in page if needed. */
  const stop = (message, action) => {
    outOfDate = true;
    if (document.querySelector("#stale-page")) return never;
    const bar = Object.assign(document.createElement("div"), { id: "stale-page" });
    bar.setAttribute("role", "alert");
    const reload = Object.assign(document.createElement("button"), { type: "button", textContent: action });
    reload.addEventListener("click", () => location.reload());
    bar.append(`${message} `, reload);
    document.body.prepend(bar);
    return never;
  };
})();
