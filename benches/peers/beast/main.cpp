// Boost.Beast over Asio's own TLS (OpenSSL), decoding with simdjson, on one thread.
//
// Asynchronous, as Beast is meant to be used: without --spin the thread sleeps in epoll until something arrives, with it
// the thread calls io_context::poll() without pause.

#include "options.hpp"
#include "tally.hpp"

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/ssl.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>

#include <sched.h>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace ssl = boost::asio::ssl;
namespace websocket = boost::beast::websocket;
using boost::system::error_code;
using tcp = asio::ip::tcp;

// What the receive buffer holds from the start. The largest messages of the feed, about 35 KiB, fit with the padding.
constexpr std::size_t buffer_bytes = 64 << 10;

constexpr auto goodbye = std::chrono::seconds(3);

// `Stream` is tcp::socket or a TLS stream over it: beast::tcp_stream would add a timer to every read.
template <class Stream>
class Client {
public:
    Client(asio::io_context& io, websocket::stream<Stream> stream, const Options& options, Tally& tally)
        : io_(io), websocket_(std::move(stream)), options_(options), tally_(tally) {
        buffer_.reserve(buffer_bytes);
    }

    void run() {
        // The handshakes block. permessage-deflate is off by default; pings are answered while reading.
        websocket_.handshake(options_.authority(), options_.target);
        websocket_.text(true);
        read();
        if (options_.spin) {
            while (!io_.stopped()) io_.poll();
        } else {
            io_.run();
        }
        if (failure_) std::rethrow_exception(failure_);
        if (tally_.is_done()) close();
    }

private:
    asio::io_context& io_;
    websocket::stream<Stream> websocket_;
    const Options& options_;
    Tally& tally_;
    beast::flat_buffer buffer_;
    std::exception_ptr failure_;

    void read() {
        websocket_.async_read(buffer_, [this](error_code error, std::size_t) {
            try {
                if (error == websocket::error::closed) return;
                if (error) throw boost::system::system_error(error, "cannot read");
                take();
                if (!tally_.is_done()) read();
            } catch (...) {
                failure_ = std::current_exception();
            }
        });
    }

    void take() {
        // simdjson wants room behind the message; there is, unless a message was larger than expected.
        const auto needed = buffer_.size() + simdjson::SIMDJSON_PADDING;
        if (buffer_.capacity() < needed) buffer_.reserve(needed);
        const auto payload = buffer_.cdata();
        const auto echo = tally_.take({static_cast<const char*>(payload.data()), payload.size()}, buffer_.capacity());
        // Written at once, not queued: the fastest way out.
        if (!echo.empty()) websocket_.write(asio::buffer(echo));
        buffer_.clear();
    }

    void close() {
        // Whatever the server makes of it: every message has come.
        websocket_.async_close(websocket::close_code::normal, [](error_code) {});
        io_.restart();
        io_.run_for(goodbye);
    }
};

void connect(tcp::socket& socket, const Options& options) {
    tcp::resolver resolver(socket.get_executor());
    asio::connect(socket, resolver.resolve(options.host, options.port));
    socket.set_option(tcp::no_delay(true));
}

void run(const Options& options, Tally& tally) {
    // One thread: Asio may leave its locks out.
    asio::io_context io(1);
    if (!options.is_secure()) {
        websocket::stream<tcp::socket> stream(io);
        connect(stream.next_layer(), options);
        Client(io, std::move(stream), options, tally).run();
        return;
    }
    ssl::context tls(ssl::context::tls_client);
    tls.set_verify_mode(ssl::verify_peer);
    tls.load_verify_file(options.ca_file);
    websocket::stream<ssl::stream<tcp::socket>> stream(io, tls);
    auto& secure = stream.next_layer();
    connect(secure.next_layer(), options);
    // Checks a name against the names, an address against the addresses of the certificate.
    secure.set_verify_callback(ssl::host_name_verification(options.host));
    error_code not_an_address;
    asio::ip::make_address(options.host, not_an_address);
    if (not_an_address) SSL_set_tlsext_host_name(secure.native_handle(), options.host.c_str());
    secure.handshake(ssl::stream_base::client);
    Client(io, std::move(stream), options, tally).run();
}

void pin(int core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores) != 0)
        throw std::system_error(errno, std::generic_category(), "cannot pin to core " + std::to_string(core));
}

int main(int argc, char** argv) try {
    if (argc == 2 && std::string_view(argv[1]) == "--versions") {
        std::cout << versions() << '\n';
        return 0;
    }
    const auto options = Options::parse(argc, argv);
    if (options.core) pin(*options.core);
    Tally tally(options);
    std::string failure;
    try {
        run(options, tally);
        failure = tally.shortfall();
    } catch (const std::exception& error) {
        failure = error.what();
    }
    tally.write_summary(failure);
    if (failure.empty()) return 0;
    std::cerr << "beast: " << failure << '\n';
    return 1;
} catch (const std::invalid_argument& error) {
    std::cerr << "beast: " << error.what() << '\n';
    return 2;
} catch (const std::exception& error) {
    std::cerr << "beast: " << error.what() << '\n';
    return 1;
}
