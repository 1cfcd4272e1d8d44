#include "hub/digest.h"

#include <openssl/evp.h>

#include <array>

#include "base/error.h"

namespace narrow {

struct ContentDigest::Context {
  EVP_MD_CTX* handle = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(handle); }
};

ContentDigest::ContentDigest(Kind kind, int64_t size) : context_(std::make_unique<Context>()) {
  const EVP_MD* algorithm = kind == Kind::kSha256 ? EVP_sha256() : EVP_sha1();
  NARROW_CHECK(context_->handle != nullptr &&
               EVP_DigestInit_ex(context_->handle, algorithm, nullptr) == 1);
  if (kind == Kind::kSha256) return;
  const std::string head = fmt::format("blob {}", size);
  Add(std::as_bytes(std::span(head.c_str(), head.size() + 1)));
}

ContentDigest::~ContentDigest() = default;
ContentDigest::ContentDigest(ContentDigest&&) noexcept = default;
ContentDigest& ContentDigest::operator=(ContentDigest&&) noexcept = default;

void ContentDigest::Add(std::span<const std::byte> bytes) {
  NARROW_CHECK(EVP_DigestUpdate(context_->handle, bytes.data(), bytes.size()) == 1);
}

std::string ContentDigest::Finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  NARROW_CHECK(EVP_DigestFinal_ex(context_->handle, digest.data(), &length) == 1);
  std::string text;
  for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

}  // namespace narrow
