// Says when the page is no longer renewed, for as long as that lasts. All else is done by the server.
"use strict";
(() => {
  let since = null;

  function banner() {
    return document.getElementById("silence");
  }

  function silent(reason) {
    since = since || new Date();
    const time = since.toISOString().slice(11, 19);
    const text = `Not renewed since ${time} UTC: ${reason}. What is shown is as of the times beside it.`;
    const shown = banner();
    if (shown.textContent !== text) shown.textContent = text;
    shown.hidden = false;
  }

  function renewed() {
    since = null;
    banner().hidden = true;
  }

  function polls(event) {
    const source = event.detail && event.detail.ctx && event.detail.ctx.sourceElement;
    return Boolean(source && source.id === "live");
  }

  document.addEventListener("htmx:error", (event) => {
    if (polls(event)) silent("the server does not answer");
  });
  document.addEventListener("htmx:response:error", (event) => {
    if (!polls(event)) return;
    const status = event.detail.ctx.response.status;
    if (status === 401) silent("the log-in has ended");
    else silent(`the server answered ${status}`);
  });
  document.addEventListener("htmx:after:swap", (event) => {
    if (polls(event)) renewed();
  });
})();
