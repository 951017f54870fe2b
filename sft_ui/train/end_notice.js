// A notice of the desktop when the run that is watched ends, for viewers who asked for it. Off until then.
// What a run's states mean is live_chart.js; this file is put in front of it.

const NOTICE_KEY = "sft-studio-end-notice";

function makeEndNotice(button) {
  const can = "Notification" in window;
  const notice = {
    on: can && localStorage.getItem(NOTICE_KEY) === "on" && Notification.permission === "granted",
  };
  const show = () => {
    button.hidden = !can;
    button.setAttribute("aria-pressed", notice.on);
  };
  button.addEventListener("click", async () => {
    const wanted = !notice.on;
    const allowed = wanted && (await Notification.requestPermission()) === "granted";
    notice.on = allowed;
    button.title = wanted && !allowed ? "The browser does not allow notices from this page" : "";
    localStorage.setItem(NOTICE_KEY, notice.on ? "on" : "off");
    show();
  });
  notice.tell = (name, words) => {
    if (notice.on) new Notification(`${words}: ${name}`, { tag: name, body: "SFT Studio" });
  };
  show();
  return notice;
}
