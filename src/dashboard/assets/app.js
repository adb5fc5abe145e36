"use strict";
// Keeps the page current: receives changed sections, sends the controls, and shows when the
// connection to the bot is lost. Sections are HTML that the bot has escaped.
(() => {
  const STALE_MS = 5000;
  const RETRY_MS = 3000;
  const notice = document.getElementById("notice");
  const body = document.body;
  let stream = null;
  let lastMessage = Date.now();
  let isPressed = false;
  let waiting = new Map();

  function say(text) {
    notice.textContent = text;
    notice.hidden = text === "";
  }

  function localTimes(root) {
    for (const time of root.querySelectorAll("time")) {
      const at = new Date(time.dateTime);
      time.textContent = time.className === "full" ? at.toLocaleString() : at.toLocaleTimeString([], { hour12: false });
      time.title = at.toLocaleString();
    }
  }

  function replace(id, html) {
    const section = document.getElementById(id);
    if (!section) return;
    const focused = section.contains(document.activeElement) ? document.activeElement.dataset.post : null;
    const parsed = new DOMParser().parseFromString(html, "text/html");
    section.replaceChildren(...parsed.body.childNodes);
    localTimes(section);
    if (focused) {
      for (const button of section.querySelectorAll("button")) {
        if (button.dataset.post === focused) button.focus();
      }
    }
  }

  // A click needs the same element under the pointer from press to release.
  function applyWaiting() {
    if (isPressed) return;
    for (const [id, html] of waiting) replace(id, html);
    waiting.clear();
    const heading = document.querySelector("#state h1");
    if (heading) document.title = heading.textContent + " · sniper";
  }

  function onMessage() {
    lastMessage = Date.now();
    body.classList.remove("stale");
  }

  function connect() {
    stream = new EventSource("/events");
    stream.addEventListener("page", (event) => {
      onMessage();
      for (const [id, html] of Object.entries(JSON.parse(event.data))) waiting.set(id, html);
      applyWaiting();
    });
    stream.addEventListener("beat", onMessage);
    stream.addEventListener("error", () => {
      // The browser does not reconnect after a rejection.
      if (stream && stream.readyState === EventSource.CLOSED) {
        disconnect();
        setTimeout(() => { if (!stream && !document.hidden) connect(); }, RETRY_MS);
      }
    });
  }

  function disconnect() {
    if (stream) stream.close();
    stream = null;
  }

  function randomKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  async function send(path, headers) {
    const response = await fetch(path, { method: "POST", headers, credentials: "same-origin" });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.error || "HTTP " + response.status);
  }

  async function control(button) {
    if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) return;
    button.disabled = true;
    try {
      await send(button.dataset.post, { "Idempotency-Key": randomKey() });
      say("");
    } catch (error) {
      say("Not done: " + error.message);
    }
    button.disabled = false;
  }

  async function signIn() {
    const code = new URLSearchParams(location.hash.slice(1)).get("code");
    if (!code) return;
    history.replaceState(null, "", location.pathname);
    try {
      await send("/api/login", { "X-Sniper-Code": code });
      location.reload();
    } catch (error) {
      say("Not signed in: " + error.message);
    }
  }

  document.addEventListener("pointerdown", (event) => { isPressed = event.button === 0; });
  // A menu or another window takes the release of the pointer.
  for (const end of ["pointerup", "pointercancel", "contextmenu", "blur"]) {
    window.addEventListener(end, () => setTimeout(() => { isPressed = false; applyWaiting(); }, 0));
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-post]");
    if (button) control(button);
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect();
    else if (!stream) connect();
  });
  window.addEventListener("hashchange", signIn);
  setInterval(() => {
    if (Date.now() - lastMessage > STALE_MS) {
      body.classList.add("stale");
      document.getElementById("since").textContent = new Date(lastMessage).toLocaleTimeString([], { hour12: false });
    }
  }, 500);
  localTimes(document);
  signIn();
  if (!body.classList.contains("locked")) connect();
})();
