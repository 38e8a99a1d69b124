// Renews the part of a page that moves, and says since when that fails. All else is done by the server.
"use strict";
(() => {
  // An answer that takes longer is none yet: what is shown may be old.
  const PATIENCE = 5000;
  // The same, of a page that is looked at again after a while.
  const SHORT_PATIENCE = 1000;
  const LONGEST_PAUSE = 30000;

  let renewedAt = new Date();
  let failures = 0;
  let next = null;
  let silence = null;

  // The part that moves; the server leaves the attribute out where nothing does.
  function part() {
    return document.querySelector("#live[data-every]");
  }

  function pause() {
    return Number(part().dataset.every) * 1000;
  }

  function say(reason) {
    const banner = document.getElementById("silence");
    const since = renewedAt.toISOString().slice(0, 19).replace("T", " ");
    const text = `Not renewed since ${since} UTC: ${reason}. What is shown is as of the times beside it.`;
    if (banner.textContent !== text) banner.textContent = text;
    banner.hidden = false;
  }

  function renew(patience) {
    clearTimeout(next);
    clearTimeout(silence);
    // Who looks at another tab is not served; the page is renewed once it is looked at again.
    if (document.hidden || !part()) return;
    silence = setTimeout(say, patience, "the server does not answer");
    part().dispatchEvent(new CustomEvent("renew"));
  }

  function plan() {
    clearTimeout(next);
    if (document.hidden || !part()) return;
    next = setTimeout(renew, Math.min(LONGEST_PAUSE, pause() * 2 ** failures), PATIENCE);
  }

  function returned() {
    if (part() && !document.hidden && new Date() - renewedAt > pause()) renew(SHORT_PATIENCE);
    else plan();
  }

  function failed(reason) {
    clearTimeout(silence);
    failures += 1;
    say(reason);
    plan();
  }

  function renews(event) {
    const source = event.detail && event.detail.ctx && event.detail.ctx.sourceElement;
    return Boolean(source && source.id === "live");
  }

  document.addEventListener("htmx:error", (event) => {
    if (renews(event)) failed("the server does not answer");
  });
  document.addEventListener("htmx:response:error", (event) => {
    if (!renews(event)) return;
    const status = event.detail.ctx.response.status;
    failed(status === 401 ? "the log-in has ended" : `the server answered ${status}`);
  });
  document.addEventListener("htmx:after:swap", (event) => {
    if (!renews(event) || event.detail.ctx.response.status >= 400) return;
    clearTimeout(silence);
    renewedAt = new Date();
    failures = 0;
    document.getElementById("silence").hidden = true;
    plan();
  });
  document.addEventListener("visibilitychange", returned);
  // At first, and of a page that is gone back to, which is shown as it was left.
  window.addEventListener("pageshow", returned);
})();
