// Desktop notification when the watched run ends, for users who turned it on. Knows nothing of run states.

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
    button.title = wanted && !allowed ? "The browser blocks notifications from this page" : "";
    localStorage.setItem(NOTICE_KEY, notice.on ? "on" : "off");
    show();
  });
  notice.tell = (name, words) => {
    if (notice.on) new Notification(`${words}: ${name}`, { tag: name, body: "SFT Studio" });
  };
  show();
  return notice;
}
