// Skyflow tokens for @NAME@: keep one TokenSource, and call source.token(@"CTX"@) for each use.
import java.io.IOException;
import java.net.http.*;
import java.nio.file.*;
import java.time.*;
import java.util.concurrent.*;
final class TokenSource {
    private record Held(String token, Instant end) {}
    private final HttpClient http = HttpClient.newHttpClient(); // follows no redirect
    private final ConcurrentMap<String, CompletableFuture<Held>> calls = new ConcurrentHashMap<>();
    /** Returns a token with at least 5 minutes left. Equal calls share one request. */
    String token(String ctx) { return shared("ctx " + ctx, 300, () -> read(ctx)).join().token; }
    private CompletableFuture<Held> shared(String key, long margin, Callable<Held> work) {
        if (calls.size() > 1000) calls.clear();
        CompletableFuture<Held> own = new CompletableFuture<>(), call = calls.compute(key,
            (name, known) -> known == null || known.isDone() && (known.isCompletedExceptionally()
                || known.join().end.isBefore(Instant.now().plusSeconds(margin))) ? own : known);
        for (int attempt = 1; call == own && !own.isDone(); attempt++) try {
            if (attempt > 1) Thread.sleep((long) ((125 << attempt) * (0.5 + Math.random() / 2)));
            own.complete(work.call());
        } catch (Throwable error) { // an IOException may pass
            if (attempt == 6 || !(error instanceof IOException)) own.completeExceptionally(error);
        }
        return call;
    }
    private Held read(String ctx) throws Exception {
        String text = ctx.replaceAll("[\\\\\"]", "\\\\$0"), answer;
        String body = ctx.isEmpty() ? "{}" : "{\"ctx\":\"" + text + "\"}";
        var login = shared("login", 0, this::logIn);
        try {
            answer = post(@"PATH"@, login.join().token, body);
        } catch (SecurityException denied) { // the login may have been revoked: a new one, once
            calls.remove("login", login);
            answer = post(@"PATH"@, shared("login", 0, this::logIn).join().token, body);
        }
        return new Held(field(answer, "access_token"), Instant.parse(field(answer, "expires_at")));
    }
    private Held logIn() throws Exception {
        String role = Files.readString(Path.of(@"FOLDER"@ + "role-id")).strip();
        String secret = Files.readString(Path.of(@"FOLDER"@ + "secret-id")).strip();
        String body = "{\"role_id\":\"" + role + "\",\"secret_id\":\"" + secret + "\"}";
        String auth = post(@"LOGIN"@, "", body);
        long seconds = Long.parseLong(field(auth, "lease_duration")) * 9 / 10;
        return new Held(field(auth, "client_token"), Instant.now().plusSeconds(seconds));
    }
    private static String field(String json, String name) {
        return json.replaceFirst("(?s).*\"" + name + "\":\\s*\"?([^\",}]+).*", "$1");
    }
    private String post(String path, String token, String body) throws Exception {
        var request = HttpRequest.newBuilder(java.net.URI.create(@"ADDRESS"@ + "/v1/" + path))
            .header("X-Vault-Token", token).POST(HttpRequest.BodyPublishers.ofString(body))
            .timeout(Duration.ofSeconds(30)).build();
        var reply = http.send(request, HttpResponse.BodyHandlers.ofString());
        String text = reply.statusCode() + " " + path + ": " + reply.body();
        if (reply.statusCode() == 200) return reply.body();
        if (reply.statusCode() == 403) throw new SecurityException(text);
        if (text.matches("(?s)(412|429|5..) (?!.*token service refused).*")) throw new IOException(text);
        throw new IllegalStateException(text);
    }
}
