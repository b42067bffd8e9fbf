// Says when the page is not live: no beat for 15 s. Everything else works without script.
(function () {
  "use strict";
  var banner = document.getElementById("stale");
  var live = document.getElementById("live");
  var last = Date.now();
  function heard() { last = Date.now(); }
  live.addEventListener("beat", heard);
  live.addEventListener("changed", heard);
  setInterval(function () {
    var seconds = Math.round((Date.now() - last) / 1000);
    var dead = seconds >= 15;
    if (dead) {
      banner.textContent = banner.dataset.text.replace("{seconds}", seconds);
      // A stream that was never opened is not opened again by itself; an open one takes no second.
      if (seconds % 5 === 0) { live.dispatchEvent(new Event("retry")); }
    }
    if (banner.hidden === dead) { banner.hidden = !dead; }
  }, 1000);
})();
