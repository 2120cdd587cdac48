import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { CreditsBalance, useCredits } from "../../../functions/dashboard/client/react.js";

const { url, key, session } = globalThis.given;
const client = globalThis.supabase.createClient(url, key, { auth: { autoRefreshToken: false } });
await client.auth.setSession(session);

function App() {
  const [opened, setOpened] = useState(false);
  const { credits } = useCredits(client);
  return (
    <>
      <CreditsBalance client={client} onCreditsBuy={() => setOpened(true)} />
      <p>Hook: {credits?.available}</p>
      {opened && <p>The shop opens.</p>}
    </>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
globalThis.ready = true;
