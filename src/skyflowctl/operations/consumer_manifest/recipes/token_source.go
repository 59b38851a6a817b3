// Skyflow tokens for @NAME@: keep one TokenSource, and call source.Token(@"CTX"@) for each use.
package main
import ("encoding/json"; "errors"; "fmt"; "math/rand/v2"; "net/http"; "os"; "strings"; "sync"; "sync/atomic"; "time")
type TokenSource struct { tokens sync.Map; made atomic.Int64; login held }
type held struct { mu sync.Mutex; value string; end, tried time.Time; err error }
type passing struct { error } // another try may help
type reader func() (token string, end time.Time, err error)
var client = http.Client{Timeout: 30 * time.Second, CheckRedirect: noRedirect}
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
// Token returns a token with at least 5 minutes left. Equal calls share one request.
func (s *TokenSource) Token(ctx string) (string, error) {
    found, known := s.tokens.LoadOrStore(ctx, &held{})
    if !known && s.made.Add(1) % 1000 == 0 { s.tokens.Clear() }
    body := map[string]string{"ctx": ctx}
    if ctx == "" { delete(body, "ctx") }
    return found.(*held).get(5 * time.Minute, "", func() (token string, end time.Time, err error) {
        for n, login := 0, ""; n == 0 || n == 1 && strings.Contains(err.Error(), ": 403 "); n++ {
            if login, err = s.login.get(0, login, logIn); err != nil { return "", end, fmt.Errorf("log in: %w", err) }
            token, end, err = post(@"PATH"@, login, body)
            if err == nil { break } // else, the login may have been revoked: a new one, once
        }
        return token, end, err
    })
}
func (h *held) get(margin time.Duration, refused string, read reader) (string, error) {
    began := time.Now()
    h.mu.Lock(); defer h.mu.Unlock()
    if h.value == refused { h.end = time.Time{} }
    for n := 1; h.tried.Before(began) && time.Until(h.end) <= margin; n++ { // no one did meanwhile
        if n > 1 { time.Sleep(time.Second / 16 << n + rand.N(time.Second / 16 << n)) }
        h.value, h.end, h.err = read()
        if _, again := h.err.(passing); !again || n == 6 { h.tried = time.Now() }
    }
    return h.value, h.err
}
func logIn() (string, time.Time, error) {
    role, err := os.ReadFile(@"FOLDER"@ + "role-id")
    secret, failed := os.ReadFile(@"FOLDER"@ + "secret-id")
    if err = errors.Join(err, failed); err != nil { return "", time.Time{}, err }
    text := func(file []byte) string { return strings.TrimSpace(string(file)) }
    return post(@"LOGIN"@, "", map[string]string{"role_id": text(role), "secret_id": text(secret)})
}
func post(path, token string, body map[string]string) (value string, end time.Time, err error) {
    var a struct { Errors []string; Auth, Data struct {
        Client_token, Access_token string; Lease_duration time.Duration; Expires_at time.Time } }
    text, _ := json.Marshal(body)
    request, _ := http.NewRequest("POST", @"ADDRESS"@ + "/v1/" + path, strings.NewReader(string(text)))
    request.Header.Set("X-Vault-Token", token)
    reply, err := client.Do(request)
    if err != nil { return "", end, passing{err} }
    defer reply.Body.Close()
    err = json.NewDecoder(reply.Body).Decode(&a)
    status, end := reply.StatusCode, a.Data.Expires_at
    if end.IsZero() { end = time.Now().Add(a.Auth.Lease_duration * time.Second * 9 / 10) }
    if status == 200 { return a.Auth.Client_token + a.Data.Access_token, end, err }
    err = fmt.Errorf("%s: %d %s", path, status, a.Errors)
    again := status >= 500 || status == 412 || status == 429
    if again && !strings.Contains(err.Error(), "token service refused") { err = passing{err} }
    return "", time.Time{}, err
}
