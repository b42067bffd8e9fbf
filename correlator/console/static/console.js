// Two things need script: saying that the page is not live (no beat for 15 s), and zooming into the plan.
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

// The plan becomes larger than its frame, and the browser scrolls it: by finger, wheel, bars and arrow keys.
(function () {
  "use strict";
  var overview = document.getElementById("overview");
  if (!overview) { return; }
  var zoom = 1, apart = 0, grip = null;
  overview.classList.add("zooms");
  function frameOf(target) { return target.closest(".frame"); }
  // By: how many times larger, 0: as large as the frame. X and y: the point of the screen that stays where it is.
  function scale(by, x, y) {
    var frame = overview.querySelector(".frame");
    if (!frame) { return; }
    var box = frame.getBoundingClientRect(), drawing = frame.firstElementChild;
    var whole = Math.min(1, frame.clientWidth * zoom / drawing.getBoundingClientRect().width);
    var next = Math.min(8, Math.max(whole, zoom * by));
    var left = (x === undefined ? box.width / 2 : x - box.left), top = (y === undefined ? box.height / 2 : y - box.top);
    var across = (frame.scrollLeft + left) * next / zoom - left, down = (frame.scrollTop + top) * next / zoom - top;
    zoom = next;
    overview.style.setProperty("--zoom", zoom);
    frame.scrollLeft = across;
    frame.scrollTop = down;
  }
  overview.addEventListener("click", function (event) {
    var button = event.target.closest("[data-zoom]");
    if (button) { scale(Number(button.dataset.zoom)); }
  });
  overview.addEventListener("keydown", function (event) {
    var by = {"+": 1.25, "=": 1.25, "-": 0.8, "0": 0}[event.key];
    if (by === undefined || event.ctrlKey || event.metaKey || event.altKey || !frameOf(event.target)) { return; }
    event.preventDefault();
    scale(by);
  });
  // Two fingers on a screen; on a touch pad they come as a wheel with the control key.
  function distance(touches) {
    return Math.hypot(touches[0].clientX - touches[1].clientX, touches[0].clientY - touches[1].clientY);
  }
  overview.addEventListener("touchstart", function (event) {
    apart = event.touches.length === 2 && frameOf(event.target) ? distance(event.touches) : 0;
  }, {passive: true});
  overview.addEventListener("touchmove", function (event) {
    if (!apart || event.touches.length !== 2) { return; }
    event.preventDefault();
    var now = distance(event.touches), a = event.touches[0], b = event.touches[1];
    scale(now / apart, (a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2);
    apart = now;
  }, {passive: false});
  overview.addEventListener("wheel", function (event) {
    if (!event.ctrlKey || !frameOf(event.target)) { return; }
    event.preventDefault();
    scale(Math.exp(-event.deltaY / 200), event.clientX, event.clientY);
  }, {passive: false});
  // A mouse takes hold of the plan; a click that does not move still opens the room.
  overview.addEventListener("pointerdown", function (event) {
    var frame = event.pointerType === "mouse" && event.button === 0 && frameOf(event.target);
    grip = frame ? {frame: frame, x: event.clientX, y: event.clientY, held: false} : null;
  });
  overview.addEventListener("pointermove", function (event) {
    if (!grip) { return; }
    var across = event.clientX - grip.x, down = event.clientY - grip.y;
    if (!grip.held && Math.hypot(across, down) < 4) { return; }
    if (!grip.held) { grip.frame.setPointerCapture(event.pointerId); grip.held = true; }
    grip.frame.scrollBy(-across, -down);
    grip.x = event.clientX;
    grip.y = event.clientY;
  });
  overview.addEventListener("pointerup", function () { grip = null; });
  overview.addEventListener("pointercancel", function () { grip = null; });
  overview.addEventListener("dragstart", function (event) { if (frameOf(event.target)) { event.preventDefault(); } });
})();
